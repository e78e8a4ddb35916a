"""What training costs: parameters, FLOPs and memory of a proxy. Predictions, not measurements."""

from __future__ import annotations

from dataclasses import dataclass

from mutransfer_cli.files.records import Protocol
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
    depth, vocab = protocol.model.depth, protocol.model.vocab
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
