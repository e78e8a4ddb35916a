"""What training costs: parameters, FLOPs and memory of a proxy. Predictions, not measurements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mutransfer_cli.files.model import ModelProtocol
from mutransfer_cli.files.records import Protocol
from mutransfer_cli.rules.plan import PlannedParameter
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


def trial_cost(protocol: Protocol, width: int) -> Cost:
    """Formulas for the built-in decoder, E = vocab * width embedding weights.

    FLOPs a token: 6 per matrix weight and 6 * depth * context * width for causal attention
    (half of the full square). Activations a token and block: about 26 values of the width
    (measured on a CPU: whole peaks within 12 %). The loss head: two copies and a mask of one chunk
    of logits, and the readout times its multiplier with its gradient.
    """
    model = protocol.model
    assert isinstance(model, ModelProtocol), "others are estimated"
    depth, vocab = model.depth, model.vocab
    context, tokens = protocol.train.context, protocol.batch_tokens
    matrices = 12 * depth * width**2 + vocab * width
    parameters = matrices + vocab * width
    per_token = 6 * matrices + 6 * depth * context * width
    activations = tokens * (26 * depth * width + 6 * width) + 2 * vocab * width
    value_bytes = 8 if protocol.train.precision == "fp64" else 4
    at_once = chunk_tokens(tokens, vocab)
    return Cost(
        parameters=parameters,
        flops=float(per_token * tokens * protocol.train.steps),
        trial_memory=value_bytes * (STATES * parameters + activations),
        chunk_memory=value_bytes * 9 * at_once * vocab // 4,
        chunks=chunk_trials(at_once, vocab),
    )


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
