"""Adafactor (Shazeer & Stern 2018, arXiv 1804.04235, Algorithms 4 and 5) without momentum.

w -= lr * max(scale_floor, RMS(w)) * u / max(1, RMS(u)), with u = g / sqrt(v), where v is the mean
square of the gradient; for a matrix it is the product of its row and column means. This is
torch.optim.Adafactor without its cap of 1 / sqrt(step) on the rate: learning rates above the cap
would all be the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from mutransfer_cli.optim.section import Member, OptimizerSection, ParamGroup, over
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.strict import Number, Positive

if TYPE_CHECKING:
    from torch import Tensor

EPS = 1e-30  # added to squared gradients


class AdafactorSpec(OptimizerSection):
    """Adafactor with parameter scale: lr is relative to the weights. Defaults of torch."""

    name: Literal["adafactor"]
    """Which optimizer: adafactor."""
    beta2_decay: Annotated[Number, Field(lt=0)] = -0.8
    """Exponent x, below 0, of the second moment's decay 1 - step^x."""
    # a fixed number: weights below it train differently in different parameterizations
    scale_floor: Positive = 1e-3
    """Least root mean square of a weight by which an update is scaled."""

    def slots(self, role: Role, param: Tensor) -> dict[str, Tensor]:
        if param.dim() <= 2:
            return {"whole": param.new_zeros(param.shape)}
        *stacked, rows, columns = param.shape
        return {
            "row": param.new_zeros(*stacked, rows, 1),
            "column": param.new_zeros(*stacked, 1, columns),
        }

    def directions_(
        self, group: ParamGroup, members: Sequence[Member], step: Tensor
    ) -> list[Tensor]:
        newest = step.double() ** self.beta2_decay  # weight of the newest square
        directions = []
        for member in members:
            second = second_moment_(member, over(newest, member.grad))
            update = second.rsqrt_().mul_(member.grad)
            scale = rms(member.param).clamp(min=self.scale_floor)
            directions.append(scale / rms(update).clamp(min=1) * update)
        return directions


def second_moment_(member: Member, newest: Tensor) -> Tensor:
    """Take the gradient's squares into their mean; return it in the gradient's shape."""
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
