"""The update of a step: all trials of a stack at once, or one after the other.

Weight decay is decoupled and lr-coupled: w -= lr * weight_decay * w.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from mutransfer_cli.optim.adamw import WithMoments, fused_update_
from mutransfer_cli.optim.section import Member, OptimizerSection, ParamGroup, over
from mutransfer_cli.torch_private import HAS_FUSED_ADAMW

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
        lr = group.lr * schedule
        directions = optimizer.directions_(group, members, state.step)
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
    """The same, one trial after the other: no rounding depends on who trains beside whom.

    For CPUs, where reductions and vectorised functions round by the shape of the whole stack.
    """
    for trial in range(len(schedule)):
        one = slice(trial, trial + 1)
        slots = {name: {k: x[one] for k, x in held.items()} for name, held in state.slots.items()}
        alone = [
            replace(g, lr=g.lr[one], weight_decay=g.weight_decay[one], eps=g.eps[one])
            for g in groups
        ]
        update_(
            optimizer,
            {name: stack[one] for name, stack in params.items()},
            {name: stack[one].contiguous() for name, stack in grads.items()},
            OptimizerState(slots, state.step[one]),
            alone,
            schedule[one],
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
