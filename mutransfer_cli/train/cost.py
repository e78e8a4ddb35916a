"""What training costs: parameters, FLOPs and memory of a proxy. Predictions, not measurements."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from mutransfer_cli.errors import InputError
from mutransfer_cli.files.records import Protocol
from mutransfer_cli.train.loss_head import chunk_tokens

STATES = 4  # of each parameter: weight, gradient, two moments
CPU_TOKENS_PER_STEP = 8192  # beyond it a larger stack only leaves the cache
CPU_WIDTH_TOKENS = 1 << 19
CUDA_TOKENS_PER_STEP = 1 << 16


@dataclass(frozen=True)
class Cost:
    """Of one trial at one width.

    Attributes:
        parameters: weights of the model.
        flops: model FLOPs of all steps, forward and backward (recomputation not counted).
        memory: predicted peak bytes.
    """

    parameters: int
    flops: float
    memory: int


def trial_cost(protocol: Protocol, width: int) -> Cost:
    """Formulas for the built-in decoder, E = vocab * width embedding weights.

    FLOPs a token: 6 per matrix weight and 6 * depth * context * width for causal attention
    (half of the full square). Activations a token and block: about 34 values of the width and the
    attention's softmax statistics. The loss head: two copies and a mask of one chunk of logits
    (trials of a group share it where it is a full chunk, so a group takes less), and the readout
    times its multiplier with its gradient.
    """
    depth, vocab = protocol.model.depth, protocol.model.vocab
    context, tokens = protocol.train.context, protocol.batch_tokens
    matrices = 12 * depth * width**2 + vocab * width
    parameters = matrices + vocab * width
    per_token = 6 * matrices + 6 * depth * context * width
    head = 9 * chunk_tokens(tokens, vocab) * vocab // 4 + 2 * vocab * width
    activations = tokens * (34 * depth * width + 6 * width) + head
    value_bytes = 8 if protocol.train.precision == "fp64" else 4
    return Cost(
        parameters=parameters,
        flops=float(per_token * tokens * protocol.train.steps),
        memory=value_bytes * (STATES * parameters + activations),
    )


def available_memory(device: torch.device) -> int:
    """Bytes that a process may still take on the device."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def group_size(protocol: Protocol, width: int, device: torch.device) -> int:
    """How many trials to train together: what helps speed, bounded by half the free memory.

    On a CPU a stack stops paying once it leaves the cache; on CUDA once a step fills the device.

    Raises:
        InputError: one trial alone is predicted not to fit.
    """
    one, free = trial_cost(protocol, width).memory, available_memory(device)
    if one > free:
        raise InputError(
            f"width {width}: one trial needs about {one / 1e9:.1f} GB and {free / 1e9:.1f} GB are "
            "free; make train.batch, train.context or the width smaller"
        )
    if device.type == "cpu":
        useful = min(
            CPU_TOKENS_PER_STEP // protocol.batch_tokens,
            CPU_WIDTH_TOKENS // (protocol.batch_tokens * width),
        )
    else:
        useful = CUDA_TOKENS_PER_STEP // protocol.batch_tokens
    return max(1, min(useful, free // 2 // one))
