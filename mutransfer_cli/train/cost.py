"""What training costs: parameters, FLOPs and memory of a proxy. Predictions, not measurements.

MERGED:
What training a multilayer perceptron costs. A prediction, not a measurement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mutransfer_cli.rules.plan import PlannedParameter
from mutransfer_cli.spec.decoder import MlpName, ModelProtocol
from mutransfer_cli.spec.model import MLPProtocol
from mutransfer_cli.spec.protocol import Protocol
from mutransfer_cli.train.loss_head import chunk_tokens, chunk_trials

STATES = 4  # of each parameter: weight, gradient, two moments


@dataclass(frozen=True)
class Cost:
    """Of one trial at one width, and of trials side by side.

    Attributes:
        parameters: weights of the model.
        flops: model FLOPs of all steps, forward and backward (recomputation not counted).
        trial_memory: bytes that each trial adds.
        chunk_memory: bytes of its chunk of logits; `chunks` trials at most hold one at a time.
    """

    parameters: int
    flops: float
    trial_memory: int
    chunk_memory: int
    chunks: int

    def memory(self, slots: int) -> int:
        """Predicted peak bytes."""
        return slots * self.trial_memory + min(slots, self.chunks) * self.chunk_memory


# of the inner size of the MLP, kept for the backward pass
KEPT_INNER: dict[MlpName, int] = {"relu": 1, "gelu": 2, "squared_relu": 2, "swiglu": 4}


def trial_cost(protocol: Protocol, width: int) -> Cost:
    """Formulas for the built-in decoder.

    FLOPs a token: 6 per matrix weight and 6 * depth * context * width for causal attention
    (half of the full square). The loss head: two copies and a mask of one chunk of logits, and the
    readout times its multiplier with its gradient.
    """
    model = protocol.model
    assert isinstance(model, ModelProtocol), "others are estimated"
    depth, vocab = model.depth, model.vocab
    context, tokens = protocol.train.context, protocol.batch_tokens
    matrices = depth * block_matrices(model, width) + vocab * width
    parameters = matrices + depth * block_vectors(model, width) + outside_blocks(model, width)
    if model.positions == "learned":
        parameters += context * width
    per_token = 6 * matrices + 6 * depth * context * width
    activations = tokens * (depth * block_activations(model, width) + 6 * width) + 2 * vocab * width
    value_bytes = 8 if protocol.train.precision == "fp64" else 4
    at_once = chunk_tokens(tokens, vocab)
    return Cost(
        parameters=parameters,
        flops=float(per_token * tokens * protocol.train.steps),
        trial_memory=value_bytes * (STATES * parameters + activations),
        chunk_memory=value_bytes * 9 * at_once * vocab // 4,
        chunks=chunk_trials(at_once, vocab),
    )


def projections(model: ModelProtocol, width: int) -> list[tuple[int, int]]:
    """Fan-in and fan-out of every projection of a block."""
    inner, kv = model.inner_size_at(width), model.kv_heads_at(width) * model.head_size_at(width)
    into = [inner] * (2 if model.mlp == "swiglu" else 1)
    return [(width, width + 2 * kv), (width, width), *((width, n) for n in into), (inner, width)]


def gains(model: ModelProtocol, size: int) -> int:
    """Of one norm."""
    return {"none": 0, "vector": size, "scalar": 1}[model.gains]


def block_matrices(model: ModelProtocol, width: int) -> int:
    return sum(fan_in * fan_out for fan_in, fan_out in projections(model, width))


def block_vectors(model: ModelProtocol, width: int) -> int:
    """Gains and biases."""
    biases = sum(fan_out for _, fan_out in projections(model, width)) if model.biases else 0
    of_heads = 2 * gains(model, model.head_size_at(width)) if model.qk_norm else 0
    return biases + 2 * gains(model, width) + of_heads


def outside_blocks(model: ModelProtocol, width: int) -> int:
    """Parameters but for the readout and positions."""
    norms = 2 if model.embedding_norm else 1
    embedding = 0 if model.tied_embeddings else model.vocab * width
    return embedding + norms * gains(model, width)


def block_activations(model: ModelProtocol, width: int) -> int:
    """Values a token, an estimate: 26 of the width in the default block, 8 of them in its MLP
    (measured on a CPU: whole peaks within 12 %, of other blocks within 16 %), and one of the width
    for every norm with gains and for each that qk_norm adds. Fewer kv heads and learned positions
    save some that are not taken off."""
    added = 2 if model.qk_norm else 0
    with_gains = 0 if model.gains == "none" else 2 + added
    return (18 + added + with_gains) * width + KEPT_INNER[model.mlp] * model.inner_size_at(width)


def estimated_cost(
    protocol: Protocol, planned: Sequence[PlannedParameter], sequence_bytes: float, width: int
) -> Cost:
    """Of a model that is not built in: an estimate, in which attention is not counted.

    FLOPs a token: 6 per matrix weight, of all experts; not of embeddings, which are looked up.
    Activations grow as width.

    Args:
        sequence_bytes: that autograd keeps of one float32 sequence at the base width.
    """
    train = protocol.train
    sizes = [(p, math.prod(p.shape)) for p in planned]
    parameters = sum(size for _, size in sizes)
    matrices = sum(size for p, size in sizes if len(p.shape) > 1 and p.role != "embedding")
    growth = width / protocol.parameterization.base_width
    value_bytes = 8 if train.precision == "fp64" else 4
    activations = sequence_bytes * train.batch * growth * value_bytes / 4
    return Cost(
        parameters=parameters,
        flops=6.0 * matrices * protocol.batch_tokens * train.steps,
        trial_memory=value_bytes * STATES * parameters + round(activations),
        chunk_memory=0,
        chunks=1,
    )


def mlp_cost(protocol: Protocol, width: int) -> Cost:
    """FLOPs a sample: 6 per weight, but 4 of the input matrix: data have no gradient.

    Activations a sample: about 3 values of the width a layer, 5 with norms, and inputs, targets,
    outputs and their gradients; twice the weights that a multiplier may stand before (measured on
    a CPU: whole peaks within 25 %).
    """
    model, train = protocol.model, protocol.train
    assert isinstance(model, MLPProtocol), "others have other formulas"
    first, last = model.inputs * width, model.outputs * width
    hidden = model.depth * width**2
    parameters = first + hidden + last
    per_sample = 6 * (hidden + last) + 4 * first
    layer_values = 5 if model.norm == "rms" else 3
    sample_values = layer_values * (model.depth + 1) * width + 2 * model.inputs + 4 * model.outputs
    value_bytes = 8 if train.precision == "fp64" else 4
    values = STATES * parameters + train.batch * sample_values + 2 * (first + last)
    return Cost(
        parameters=parameters,
        flops=float(per_sample * train.batch * train.steps),
        trial_memory=value_bytes * values,
        chunk_memory=0,
        chunks=1,
    )
