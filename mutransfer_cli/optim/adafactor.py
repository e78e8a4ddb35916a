"""Adafactor (Shazeer & Stern 2018, arXiv 1804.04235, Algorithms 4 and 5) without momentum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mutransfer_cli.optim.stack import OptimizerState, ParamGroup, Stack, decay_, over

EPS = 1e-30  # floor under the root of the second moment


@dataclass(frozen=True)
class Adafactor:
    """w -= lr * max(scale_floor, RMS(w)) * u / max(1, RMS(u)), with u = g / sqrt(v).

    v is the mean square of the gradient, of a matrix as the product of its row and column means.
    As torch.optim.Adafactor, but without its cap of 1 / sqrt(step) on the rate: with the cap no
    learning rate above it could be compared.

    Attributes:
        beta2_decay: step^beta2_decay is the weight of the newest square.
        scale_floor: least parameter scale; a fixed number, where equal training stops being equal
            between parameterizations.
    """

    beta2_decay: float
    scale_floor: float

    def slots(self, params: Mapping[str, Tensor], groups: Sequence[ParamGroup]) -> dict[str, Stack]:
        stacks = {name: params[name] for group in groups for name in group.names}
        matrices = {name: stack for name, stack in stacks.items() if stack.dim() > 2}
        return {
            "row": {name: torch.zeros_like(x[..., :1]) for name, x in matrices.items()},
            "column": {name: torch.zeros_like(x[..., :1, :]) for name, x in matrices.items()},
            "whole": {
                name: torch.zeros_like(x) for name, x in stacks.items() if name not in matrices
            },
        }

    def update_(
        self,
        params: Mapping[str, Tensor],
        grads: Mapping[str, Tensor],
        state: OptimizerState,
        groups: Sequence[ParamGroup],
        schedule: Tensor,
    ) -> None:
        newest = state.step.double() ** self.beta2_decay
        for group in groups:
            lr = group.lr * schedule
            for name in group.names:
                param, grad = params[name], grads[name]
                second = second_moment_(name, grad, state, over(newest, grad))
                update = second.clamp_(min=EPS**2).rsqrt_().mul_(grad)
                scale = rms(param).clamp(min=self.scale_floor)
                decay_(param, lr, group)
                param.sub_(over(lr, param) * scale / rms(update).clamp(min=1) * update)


def second_moment_(name: str, grad: Tensor, state: OptimizerState, newest: Tensor) -> Tensor:
    """Takes the squares of a gradient into the mean square; returns it in the gradient's shape."""
    whole = state.slots["whole"].get(name)
    if whole is not None:
        return whole.lerp_(grad.square(), newest).clone()
    row, column = state.slots["row"][name], state.slots["column"][name]
    row.lerp_(grad.square().mean(-1, keepdim=True), newest)
    column.lerp_(grad.square().mean(-2, keepdim=True), newest)
    return row * column / row.mean(-2, keepdim=True).clamp(min=EPS)


def rms(stack: Tensor) -> Tensor:
    """Root mean square of each trial's values, broadcasting over the stack."""
    return over(stack.flatten(1).square().mean(1).sqrt(), stack)
