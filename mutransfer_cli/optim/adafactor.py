"""Adafactor (Shazeer & Stern 2018, arXiv 1804.04235, Algorithms 4 and 5) without momentum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mutransfer_cli.optim.stack import Member, ParamGroup, over
from mutransfer_cli.rules.choices import Role

EPS = 1e-30  # added to squared gradients


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

    def slots(self, role: Role, param: Tensor) -> dict[str, Tensor]:
        if param.dim() > 2:
            rows, columns = param[..., :1], param[..., :1, :]
            return {"row": torch.zeros_like(rows), "column": torch.zeros_like(columns)}
        return {"whole": torch.zeros_like(param)}

    def directions_(
        self, group: ParamGroup, members: Sequence[Member], step: Tensor
    ) -> list[Tensor]:
        newest = step.double() ** self.beta2_decay
        directions = []
        for member in members:
            second = second_moment_(member, over(newest, member.grad))
            update = second.rsqrt_().mul_(member.grad)
            scale = rms(member.param).clamp(min=self.scale_floor)
            directions.append(scale / rms(update).clamp(min=1) * update)
        return directions


def second_moment_(member: Member, newest: Tensor) -> Tensor:
    """Takes the gradient's squares into their mean; returns it in the gradient's shape."""
    square = member.grad.square() + EPS
    if "whole" in member.slots:
        return member.slots["whole"].lerp_(square, newest).clone()
    row, column = member.slots["row"], member.slots["column"]
    row.lerp_(square.mean(-1, keepdim=True), newest)
    column.lerp_(square.mean(-2, keepdim=True), newest)
    # in this order nothing underflows where a row of an embedding was never read
    return row / row.mean(-2, keepdim=True) * column


def rms(stack: Tensor) -> Tensor:
    """Root mean square of each trial's values, broadcasting over the stack."""
    return over(stack.flatten(1).square().mean(1).sqrt(), stack)
