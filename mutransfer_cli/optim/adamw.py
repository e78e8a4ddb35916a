"""AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101, Algorithm 2); without decay it is Adam."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from mutransfer_cli.optim.section import Betas, Member, OptimizerSection, ParamGroup, over
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.strict import Positive

if TYPE_CHECKING:
    from torch import Tensor

    from mutransfer_cli.optim.stack import OptimizerState


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
    directions = []
    for member in members:
        first, second = moments_(member, step, betas)
        directions.append(first / second.sqrt_().add_(over(group.eps, second)))
    return directions


def moment_slots(param: Tensor) -> dict[str, Tensor]:
    """Both moments before the first gradient."""
    return {name: param.new_zeros(param.shape) for name in ("exp_avg", "exp_avg_sq")}


def moments_(member: Member, step: Tensor, betas: Betas) -> tuple[Tensor, Tensor]:
    """Take the gradient into both moments; return them corrected for their start at zero."""
    grad, first, second = member.grad, member.slots["exp_avg"], member.slots["exp_avg_sq"]
    first.lerp_(grad, 1 - betas[0])
    second.mul_(betas[1]).addcmul_(grad, grad, value=1 - betas[1])
    # in float32 the correction of the first steps would lose a digit
    steps = step.double()
    return first / over(1 - betas[0] ** steps, grad), second / over(1 - betas[1] ** steps, grad)


def fused_update_(
    optimizer: WithMoments,
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    state: OptimizerState,
    groups: Sequence[ParamGroup],
    schedule: Tensor,
) -> None:
    """The same update, trial by trial, through torch's fused CPU kernel: one pass over memory."""
    from mutransfer_cli.torch_private import fused_adamw_

    state.step.add_(1)
    for group in groups:
        per_trial = (group.lr, schedule, group.weight_decay, group.eps)
        for trial, (peak, factor, weight_decay, eps) in enumerate(
            zip(*(x.tolist() for x in per_trial), strict=True)
        ):
            fused_adamw_(
                [params[name][trial] for name in group.names],
                [grads[name][trial].contiguous() for name in group.names],
                [state.slots[name]["exp_avg"][trial] for name in group.names],
                [state.slots[name]["exp_avg_sq"][trial] for name in group.names],
                [state.step[trial]] * len(group.names),
                lr=peak * factor,
                betas=optimizer.betas,
                weight_decay=weight_decay,
                eps=eps,
            )
