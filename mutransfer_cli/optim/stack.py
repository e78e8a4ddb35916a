"""The update of a step: all trials of a stack at once, or one after the other.

Weight decay is decoupled and lr-coupled: w -= lr * weight_decay * w.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from mutransfer_cli.optim.adamw import WithMoments
from mutransfer_cli.optim.section import Member, OptimizerSection, ParamGroup, over
from mutransfer_cli.torch_private import HAS_FUSED_ADAMW, fused_adamw_

Stack = dict[str, Tensor]


@dataclass(frozen=True)
class OptimizerState:
    """Slots of every parameter by name, and the steps done, [T]."""

    slots: dict[str, dict[str, Tensor]]
    step: Tensor


# parameters, gradients, state, groups, schedule
Update = Callable[
    [Mapping[str, Tensor], Mapping[str, Tensor], OptimizerState, Sequence[ParamGroup], Tensor], None
]


def begin(
    optimizer: OptimizerSection, params: Mapping[str, Tensor], groups: Sequence[ParamGroup]
) -> OptimizerState:
    """The state before the first step."""
    slots = {
        name: optimizer.slots(group.role, params[name]) for group in groups for name in group.names
    }
    first = next(iter(params.values()))
    return OptimizerState(slots, torch.zeros(first.shape[0], device=first.device))


def build_update(optimizer: OptimizerSection, by_trial: bool) -> Update:
    """The update of a step in place.

    Args:
        by_trial: one trial after the other, so that results do not depend on the group.
    """
    if not by_trial:
        return partial(update_, optimizer)
    if isinstance(optimizer, WithMoments) and HAS_FUSED_ADAMW:
        return partial(fused_update_, optimizer)
    return partial(update_by_trial_, optimizer)


def update_(
    optimizer: OptimizerSection,
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    state: OptimizerState,
    groups: Sequence[ParamGroup],
    schedule: Tensor,
) -> None:
    """One update of all trials in place. `schedule` is the factor on the peak rate, [T]."""
    state.step.add_(1)
    for group in groups:
        members = [Member(params[name], grads[name], state.slots[name]) for name in group.names]
        update_group_(optimizer, group, members, state.step, schedule)


def update_group_(
    optimizer: OptimizerSection,
    group: ParamGroup,
    members: Sequence[Member],
    step: Tensor,
    schedule: Tensor,
) -> None:
    """Take the directions of a group's members, and its weight decay, at its rate of this step."""
    lr = group.lr * schedule
    directions = optimizer.directions_(group, members, step)
    for member, direction in zip(members, directions, strict=True):
        param = member.param
        param.mul_(over(1 - lr * group.weight_decay, param)).sub_(over(lr, param) * direction)


def update_by_trial_(
    optimizer: OptimizerSection,
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    state: OptimizerState,
    groups: Sequence[ParamGroup],
    schedule: Tensor,
) -> None:
    """Update one trial after the other, so that rounding does not depend on the other trials.

    On a CPU, reductions and vectorised functions round by the shape of the whole stack.
    """
    state.step.add_(1)
    for group in groups:
        for trial in range(len(schedule)):
            one = slice(trial, trial + 1)
            alone = ParamGroup(
                group.names, group.role, group.lr[one], group.weight_decay[one], group.eps[one]
            )
            members = [
                Member(
                    params[name][one],
                    grads[name][one].contiguous(),
                    {slot: stack[one] for slot, stack in state.slots[name].items()},
                )
                for name in group.names
            ]
            update_group_(optimizer, alone, members, state.step[one], schedule[one])


def fused_update_(
    optimizer: WithMoments,
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    state: OptimizerState,
    groups: Sequence[ParamGroup],
    schedule: Tensor,
) -> None:
    """Update one trial after the other by torch's fused CPU kernel: one pass over memory."""
    state.step.add_(1)
    beta1, beta2 = optimizer.betas
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
                beta1=beta1,
                beta2=beta2,
                weight_decay=weight_decay,
                eps=eps,
            )


def clip_(grads: Mapping[str, Tensor], max_norm: float, by_trial: bool) -> None:
    """Scale each trial's gradient in place to a global norm of at most `max_norm`."""
    if by_trial:  # the order of the additions does not depend on T
        trials = zip(*(grad.unbind() for grad in grads.values()), strict=True)
        norms = torch.stack([torch.nn.utils.get_total_norm(trial) for trial in trials])
    else:
        squares = [grad.square().flatten(1).sum(1) for grad in grads.values()]
        norms = torch.stack(squares).sum(0).sqrt()
    factor = (max_norm / (norms + 1e-6)).clamp(max=1.0)
    for grad in grads.values():
        grad.mul_(over(factor, grad))
