"""AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101, Algorithm 2); without decay it is Adam."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from mutransfer_cli.optim.section import Betas, Member, OptimizerSection, ParamGroup, over
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.strict import Positive

if TYPE_CHECKING:
    from torch import Tensor


class WithMoments(OptimizerSection):
    """m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; w -= lr * m_hat / (sqrt(v_hat) + eps)."""

    betas: Betas = (0.9, 0.95)
    """Decay per step of the means m of the gradient and v of its square."""
    eps: Positive = 1e-8
    """Added to sqrt(v), in units of the gradient."""

    def slots(self, role: Role, param: Tensor) -> dict[str, Tensor]:
        return moment_slots(param)

    def directions_(
        self, group: ParamGroup, members: Sequence[Member], step: Tensor
    ) -> list[Tensor]:
        return adamw_directions_(self.betas, group, members, step)


class AdamSpec(WithMoments):
    """Adam without weight decay, which would pass through the denominator; AdamW has decay."""

    name: Literal["adam"]
    """Which optimizer: adam."""

    @model_validator(mode="after")
    def without_decay(self) -> AdamSpec:
        if self.weight_decay:
            raise ValueError(f"weight_decay {self.weight_decay:g}: adam has none; use name: adamw")
        return self


class AdamWSpec(WithMoments):
    """AdamW."""

    name: Literal["adamw"] = "adamw"
    """Which optimizer: adamw."""


def adamw_directions_(
    betas: Betas, group: ParamGroup, members: Sequence[Member], step: Tensor
) -> list[Tensor]:
    return [
        first / second.sqrt_().add_(over(group.eps, second))
        for first, second in moments_(members, step, betas)
    ]


def moment_slots(param: Tensor) -> dict[str, Tensor]:
    """Both moments before the first gradient."""
    return {name: param.new_zeros(param.shape) for name in ("exp_avg", "exp_avg_sq")}


def moments_(
    members: Sequence[Member], step: Tensor, betas: Betas
) -> Iterator[tuple[Tensor, Tensor]]:
    """Take the gradients into both moments; yield these corrected for their start at zero."""
    # in float32 the correction of the first steps would lose a digit
    steps = step.double()
    share_1, share_2 = 1 - betas[0] ** steps, 1 - betas[1] ** steps
    for member in members:
        grad, first, second = member.grad, member.slots["exp_avg"], member.slots["exp_avg_sq"]
        first.lerp_(grad, 1 - betas[0])
        second.mul_(betas[1]).addcmul_(grad, grad, value=1 - betas[1])
        yield first / over(share_1, grad), second / over(share_2, grad)
