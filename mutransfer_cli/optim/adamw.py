"""AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101, Algorithm 2); without decay it is Adam."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mutransfer_cli.optim.stack import Member, OptimizerState, ParamGroup, over
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.torch_private import fused_adamw_


@dataclass(frozen=True)
class AdamW:
    """m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; w -= lr * m_hat / (sqrt(v_hat) + eps)."""

    betas: tuple[float, float]

    def slots(self, role: Role, param: Tensor) -> dict[str, Tensor]:
        return moment_slots(param)

    def directions_(
        self, group: ParamGroup, members: Sequence[Member], step: Tensor
    ) -> list[Tensor]:
        directions = []
        for member in members:
            first, second = moments_(member, step, self.betas)
            directions.append(first / second.sqrt_().add_(over(group.eps, second)))
        return directions


def moment_slots(param: Tensor) -> dict[str, Tensor]:
    """Both moments before the first gradient."""
    return {"exp_avg": torch.zeros_like(param), "exp_avg_sq": torch.zeros_like(param)}


def moments_(member: Member, step: Tensor, betas: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Takes the gradient into both moments; returns them corrected for their start at zero."""
    grad, first, second = member.grad, member.slots["exp_avg"], member.slots["exp_avg_sq"]
    first.lerp_(grad, 1 - betas[0])
    second.mul_(betas[1]).addcmul_(grad, grad, value=1 - betas[1])
    # in float32 the correction of the first steps would lose a digit
    steps = step.double()
    return first / over(1 - betas[0] ** steps, grad), second / over(1 - betas[1] ** steps, grad)


def fused_update_(
    rule: AdamW,
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    state: OptimizerState,
    groups: Sequence[ParamGroup],
    schedule: Tensor,
) -> None:
    """The same trial by trial through torch's fused CPU kernel: one pass over memory."""
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
                betas=rule.betas,
                weight_decay=weight_decay,
                eps=eps,
            )
