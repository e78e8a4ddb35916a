"""Predicted cost of training a proxy: parameters, FLOPs and memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch

from mutransfer_cli.proxies.build import build_built_in
from mutransfer_cli.rules.plan import PlannedParameter
from mutransfer_cli.spec.decoder import MlpName, ModelProtocol
from mutransfer_cli.spec.model import MLPProtocol
from mutransfer_cli.spec.protocol import Protocol
from mutransfer_cli.train.loss_head import chunk_tokens, chunk_trials

STATES = 4  # values per parameter: weight, gradient, two moments
# values that the MLP keeps for the backward pass, as multiples of its inner size
KEPT_INNER: dict[MlpName, int] = {"relu": 1, "gelu": 2, "squared_relu": 2, "swiglu": 4}


@dataclass(frozen=True)
class Cost:
    """Cost of one trial at one width, and memory of several side by side.

    Attributes:
        parameters: weights of the model.
        flops: model FLOPs of all steps, forward and backward, without recomputation.
        trial_memory: bytes that each trial adds.
        chunk_memory: bytes of one trial's chunk of logits; at most `chunks` trials hold one at
            a time.
    """

    parameters: int
    flops: float
    trial_memory: int
    chunk_memory: int = 0
    chunks: int = 1

    def memory(self, slots: int) -> int:
        """Predicted peak bytes of `slots` trials side by side."""
        return slots * self.trial_memory + min(slots, self.chunks) * self.chunk_memory


def trial_cost(protocol: Protocol, width: int) -> Cost:
    """Cost of the built-in decoder.

    FLOPs per token: 6 per matrix weight and 6 * depth * context * width for causal attention (half
    of the full square). The loss head holds two copies and a mask of one chunk of logits, and the
    readout times its multiplier with its gradient.
    """
    model = protocol.model
    assert isinstance(model, ModelProtocol), "other models have their own formulas"
    depth, vocab = model.depth, model.vocab
    context, tokens = protocol.train.context, protocol.batch_tokens
    shapes = weight_shapes(model, context, width)
    parameters = sum(shape.numel() for shape in shapes)
    looked_up = 0 if model.tied_embeddings else vocab * width
    if model.positions == "learned":
        looked_up += context * width
    matrices = sum(shape.numel() for shape in shapes if len(shape) > 1) - looked_up
    per_token = 6 * matrices + 6 * depth * context * width
    activations = tokens * (depth * block_activations(model, width) + 6 * width) + 2 * vocab * width
    at_once = chunk_tokens(tokens, vocab)
    return Cost(
        parameters=parameters,
        flops=float(per_token * tokens * protocol.train.steps),
        trial_memory=value_bytes(protocol) * (STATES * parameters + activations),
        chunk_memory=value_bytes(protocol) * 9 * at_once * vocab // 4,
        chunks=chunk_trials(at_once, vocab),
    )


@cache
def weight_shapes(model: ModelProtocol, context: int, width: int) -> tuple[torch.Size, ...]:
    """Shape of every parameter of the built-in decoder."""
    with torch.device("meta"):
        return tuple(p.shape for p in build_built_in(model, context, width).parameters())


def value_bytes(protocol: Protocol) -> int:
    """Bytes of a weight; under autocast weights are float32 too."""
    return 8 if protocol.train.precision == "fp64" else 4


def block_activations(model: ModelProtocol, width: int) -> int:
    """Estimated values that a block keeps per token.

    The default block keeps 26 times the width, 8 of them in its MLP (on a CPU measured peaks agree
    within 12%, of other blocks within 16%); each norm with gains and each norm of qk_norm adds
    one width. Savings by fewer kv heads and learned positions are not subtracted.
    """
    added = 2 if model.qk_norm else 0
    with_gains = 0 if model.gains == "none" else 2 + added
    return (18 + added + with_gains) * width + KEPT_INNER[model.mlp] * model.inner_size_at(width)


def estimated_cost(
    protocol: Protocol,
    planned: Sequence[PlannedParameter],
    sequence_bytes: float,
    width: int,
    positions: float = 1.0,
) -> Cost:
    """Estimated cost of a model that is not built in; attention is not counted.

    FLOPs per token: 6 per matrix weight, of all experts, but none for embeddings, which are looked
    up, unless they are the readout too. Activations scale as width.

    Args:
        sequence_bytes: bytes that autograd keeps of one float32 sequence at the base width.
        positions: how often a token or sample passes a matrix, on average.
    """
    train = protocol.train
    parameters, matrices = sum(math.prod(p.shape) for p in planned), multiplied(planned)
    growth = width / protocol.parameterization.base_width
    activations = sequence_bytes * train.batch * growth * value_bytes(protocol) / 4
    return Cost(
        parameters=parameters,
        flops=6.0 * matrices * positions * protocol.batch_tokens * train.steps,
        trial_memory=value_bytes(protocol) * STATES * parameters + round(activations),
    )


def multiplied(planned: Sequence[PlannedParameter]) -> int:
    """Number of weights that activations are multiplied by, which plain embeddings are not."""
    return sum(
        math.prod(p.shape)
        for p in planned
        if len(p.shape) > 1 and (p.role != "embedding" or p.output_multiplier is not None)
    )


def mlp_cost(protocol: Protocol, width: int) -> Cost:
    """Cost of the built-in multilayer perceptron.

    FLOPs per sample: 6 per weight, but 4 in the input matrix, because data have no gradient.
    Activations per sample: about 3 values per unit of width and layer, 5 with norms, and inputs,
    targets, outputs and their gradients; then two copies of the weights that have a multiplier
    (on a CPU measured peaks agree within 25%).
    """
    model, train = protocol.model, protocol.train
    assert isinstance(model, MLPProtocol), "other models have their own formulas"
    first, last = model.inputs * width, model.outputs * width
    hidden = model.depth * width**2
    parameters = first + hidden + last
    per_sample = 6 * (hidden + last) + 4 * first
    layer_values = 5 if model.norm == "rms" else 3
    sample_values = layer_values * (model.depth + 1) * width + 2 * model.inputs + 4 * model.outputs
    values = STATES * parameters + train.batch * sample_values + 2 * (first + last)
    return Cost(
        parameters=parameters,
        flops=float(per_sample * train.batch * train.steps),
        trial_memory=value_bytes(protocol) * values,
    )
