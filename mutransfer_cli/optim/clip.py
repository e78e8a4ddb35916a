"""Clipping of each trial's gradient by its global norm."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mutransfer_cli.optim.stack import over


def clip_(grads: Mapping[str, Tensor], max_norm: float, by_trial: bool) -> None:
    """Scales each trial's gradient in place to a global norm of at most `max_norm`."""
    norms = slice_norms(grads) if by_trial else stack_norms(grads)
    factor = (max_norm / (norms + 1e-6)).clamp(max=1.0)
    for grad in grads.values():
        grad.mul_(over(factor, grad))


def stack_norms(grads: Mapping[str, Tensor]) -> Tensor:
    """Global gradient norm of each trial, [T]."""
    return torch.stack([grad.square().flatten(1).sum(1) for grad in grads.values()]).sum(0).sqrt()


def slice_norms(grads: Mapping[str, Tensor]) -> Tensor:
    """The same, trial by trial: the order of its additions does not depend on T."""
    slices = zip(*(grad.unbind() for grad in grads.values()), strict=True)
    return torch.stack([torch.nn.utils.get_total_norm(trial) for trial in slices])
