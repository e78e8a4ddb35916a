"""Sizes of tensors, one number a trial."""

from __future__ import annotations

import math

import torch
from torch import Tensor

MOST_VALUES = 1 << 16  # that are held of one activation


def norm(stack: Tensor) -> Tensor:
    """Frobenius norm of each trial's values, [T, ...] to [T], in float64: squares of small
    gradients would leave float32."""
    values = stack.reshape(len(stack), -1)
    result: Tensor = torch.linalg.vector_norm(values, dim=1, dtype=torch.float64)
    return result


def rms(stack: Tensor) -> Tensor:
    """Root mean square of each trial's values, [T, ...] to [T]."""
    return norm(stack) / math.sqrt(stack[0].numel())


def relative_update(before: Tensor, after: Tensor) -> Tensor:
    """||dW||_F / ||W||_F of each trial, [T, ...] to [T], W before the update; not finite for 0."""
    return norm(after - before) / norm(before)


def sample(output: Tensor) -> Tensor:
    """At most MOST_VALUES of one trial's output, always the same ones, [n]."""
    stride = -(-output.numel() // MOST_VALUES)
    while math.gcd(stride, output.shape[-1]) > 1:
        stride += 1  # else it would meet the same features in every token
    return output.flatten()[::stride]
