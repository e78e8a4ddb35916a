"""Updating stacks of trials: what every optimizer shares.

Every parameter is a stack [T, ...] of T trials; every hyperparameter that differs between trials
is a tensor [T]. Weight decay is decoupled and lr-coupled: w -= lr * weight_decay * w.

MERGED:
Clipping of each trial's gradient by its global norm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mutransfer_cli.rules.choices import Role

Stack = dict[str, Tensor]


@dataclass(frozen=True)
class ParamGroup:
    """Parameters of one role that share hyperparameters.

    Attributes:
        names: of the parameters.
        role: what width does to them.
        lr: peak learning rate per step, [T].
        weight_decay: lr-coupled, [T].
        eps: added to the root of the second moment, [T]; unused where the optimizer has none.
    """

    names: tuple[str, ...]
    role: Role
    lr: Tensor
    weight_decay: Tensor
    eps: Tensor


@dataclass(frozen=True)
class Member:
    """A parameter, its gradient, and what the optimizer remembers of it, by slot; all [T, ...]."""

    param: Tensor
    grad: Tensor
    slots: Mapping[str, Tensor]


class UpdateRule(Protocol):
    """How an optimizer turns gradients into updates. Its settings are the same for all trials."""

    def slots(self, role: Role, param: Tensor) -> dict[str, Tensor]:
        """First values of what is remembered of a parameter."""
        ...

    def directions_(
        self, group: ParamGroup, members: Sequence[Member], step: Tensor
    ) -> Sequence[Tensor]:
        """What each member loses at a rate of 1; changes slots in place.

        Args:
            step: steps done with this one, [T]; 1 in the first.
        """
        ...


@dataclass(frozen=True)
class OptimizerState:
    """Slots of every parameter by name, and the steps done, [T]."""

    slots: dict[str, dict[str, Tensor]]
    step: Tensor


def begin(
    rule: UpdateRule, params: Mapping[str, Tensor], groups: Sequence[ParamGroup]
) -> OptimizerState:
    slots = {name: rule.slots(group.role, params[name]) for group in groups for name in group.names}
    first = next(iter(params.values()))
    return OptimizerState(slots, torch.zeros(first.shape[0], device=first.device))


def update_(
    rule: UpdateRule,
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    state: OptimizerState,
    groups: Sequence[ParamGroup],
    schedule: Tensor,
) -> None:
    """One update of all trials in place. `schedule` is the factor on the peak rate, [T]."""
    state.step.add_(1)
    for group in groups:
        apply_(rule, group, members_of(group, params, grads, state), state.step, schedule)


def update_by_trial_(
    rule: UpdateRule,
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    state: OptimizerState,
    groups: Sequence[ParamGroup],
    schedule: Tensor,
) -> None:
    """The same, one trial after the other: no rounding depends on who trains beside whom.

    For CPUs, where reductions and vectorised functions round by the shape of the whole stack.
    """
    state.step.add_(1)
    for group in groups:
        members = members_of(group, params, grads, state)
        for trial in range(len(schedule)):
            one = slice(trial, trial + 1)
            alone = ParamGroup(
                group.names, group.role, group.lr[one], group.weight_decay[one], group.eps[one]
            )
            slices = [
                Member(
                    m.param[one],
                    m.grad[one].contiguous(),
                    {slot: stack[one] for slot, stack in m.slots.items()},
                )
                for m in members
            ]
            apply_(rule, alone, slices, state.step[one], schedule[one])


def members_of(
    group: ParamGroup,
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    state: OptimizerState,
) -> list[Member]:
    return [Member(params[name], grads[name], state.slots[name]) for name in group.names]


def apply_(
    rule: UpdateRule,
    group: ParamGroup,
    members: Sequence[Member],
    step: Tensor,
    schedule: Tensor,
) -> None:
    lr = group.lr * schedule
    directions = rule.directions_(group, members, step)
    for member, direction in zip(members, directions, strict=True):
        param = member.param
        param.mul_(over(1 - lr * group.weight_decay, param)).sub_(over(lr, param) * direction)


def over(per_trial: Tensor, stack: Tensor) -> Tensor:
    """[T] in the type and shape that broadcast over a stack [T, ...]."""
    return per_trial.to(stack.dtype).view(-1, *[1] * (stack.dim() - 1))


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
