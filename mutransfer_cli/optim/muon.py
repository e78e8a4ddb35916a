"""Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): orthogonalised hidden updates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mutransfer_cli.optim.adamw import AdamW
from mutransfer_cli.optim.stack import OptimizerState, ParamGroup, Stack, decay_, over, zeros
from mutransfer_cli.rules.optimizers import LrAdjustment

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the published quintic iteration
ITERATIONS = 5
EPS = 1e-7


@dataclass(frozen=True)
class Muon:
    """w -= lr * adjustment * orthogonalised(Nesterov momentum); AdamW for all that is not hidden.

    Attributes:
        lr_adjustment: factor on the rate of a matrix of A x B: `original` sqrt(max(1, A / B)),
            `match_rms_adamw` 0.2 sqrt(max(A, B)), under which updates are as large as AdamW's.
    """

    momentum: float
    lr_adjustment: LrAdjustment
    adamw: AdamW

    def slots(self, params: Mapping[str, Tensor], groups: Sequence[ParamGroup]) -> dict[str, Stack]:
        hidden, rest = split(groups)
        return {"momentum": zeros(params, hidden), **self.adamw.slots(params, rest)}

    def update_(
        self,
        params: Mapping[str, Tensor],
        grads: Mapping[str, Tensor],
        state: OptimizerState,
        groups: Sequence[ParamGroup],
        schedule: Tensor,
    ) -> None:
        hidden, rest = split(groups)
        self.adamw.update_(params, grads, state, rest, schedule)
        for group in hidden:
            lr = group.lr * schedule
            for names in same_shape(group.names, params):
                nesterov = [self.nesterov_(state.slots["momentum"][n], grads[n]) for n in names]
                update = orthogonalised(torch.stack(nesterov))
                for name, matrix in zip(names, update, strict=True):
                    param = params[name]
                    decay_(param, lr, group)
                    param.sub_(over(lr * self.adjustment(param), param) * matrix)

    def nesterov_(self, momentum: Tensor, grad: Tensor) -> Tensor:
        momentum.lerp_(grad, 1 - self.momentum)
        return grad.lerp(momentum, self.momentum)

    def adjustment(self, param: Tensor) -> float:
        rows, columns = param.shape[-2:]
        if self.lr_adjustment == "original":
            return math.sqrt(max(1, rows / columns))
        return 0.2 * math.sqrt(max(rows, columns))


def split(groups: Sequence[ParamGroup]) -> tuple[list[ParamGroup], list[ParamGroup]]:
    """The groups of hidden matrices, and the rest."""
    return [g for g in groups if g.role == "hidden"], [g for g in groups if g.role != "hidden"]


def same_shape(names: Sequence[str], params: Mapping[str, Tensor]) -> list[list[str]]:
    """The names by shape of their parameter: layers that can be orthogonalised together."""
    by_shape: dict[torch.Size, list[str]] = {}
    for name in names:
        by_shape.setdefault(params[name].shape, []).append(name)
    return list(by_shape.values())


def orthogonalised(matrices: Tensor) -> Tensor:
    """About U V^T of each matrix [..., A, B] = U S V^T, by Newton-Schulz in the matrices' type.

    The iteration stops at singular values between about 0.7 and 1.2.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=EPS)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.mT if tall else x
    return result
