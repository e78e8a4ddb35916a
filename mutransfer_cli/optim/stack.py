"""What every optimizer over stacked trials shares.

Every parameter is a stack [T, ...] of T trials; every hyperparameter that differs between trials
is a tensor [T]. Weight decay is decoupled and lr-coupled: w -= lr * weight_decay * w.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mutransfer_cli.rules.roles import Role

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
class OptimizerState:
    """What an optimizer remembers: by slot, stacks like the parameters; and the steps done, [T].

    The caller counts the steps: `step` is 1 during the first update.
    """

    slots: dict[str, Stack]
    step: Tensor


class Optimizer(Protocol):
    """An update rule over stacks. Its settings are the same for all trials."""

    def slots(self, params: Mapping[str, Tensor], groups: Sequence[ParamGroup]) -> dict[str, Stack]:
        """First values of what the optimizer remembers."""
        ...

    def update_(
        self,
        params: Mapping[str, Tensor],
        grads: Mapping[str, Tensor],
        state: OptimizerState,
        groups: Sequence[ParamGroup],
        schedule: Tensor,
    ) -> None:
        """One update in place. `schedule` is the factor on the peak rate, [T]."""
        ...


def begin(
    optimizer: Optimizer, params: Mapping[str, Tensor], groups: Sequence[ParamGroup]
) -> OptimizerState:
    first = next(iter(params.values()))
    steps = torch.zeros(first.shape[0], device=first.device)
    return OptimizerState(optimizer.slots(params, groups), steps)


def zeros(params: Mapping[str, Tensor], groups: Sequence[ParamGroup]) -> Stack:
    """A zero like each parameter of the groups."""
    return {name: torch.zeros_like(params[name]) for group in groups for name in group.names}


def over(per_trial: Tensor, stack: Tensor) -> Tensor:
    """[T] in the type and shape that broadcast over a stack [T, ...]."""
    return per_trial.to(stack.dtype).view(-1, *[1] * (stack.dim() - 1))


def decay_(param: Tensor, lr: Tensor, group: ParamGroup) -> None:
    """w -= lr * weight_decay * w, with lr [T] of this step."""
    param.mul_(over(1 - lr * group.weight_decay, param))


@dataclass(frozen=True)
class ByTrial:
    """Updates one trial after the other, so that no rounding depends on who trains beside whom.

    For CPUs, where reductions and vectorised functions round by the shape of the whole stack.
    """

    optimizer: Optimizer

    def slots(self, params: Mapping[str, Tensor], groups: Sequence[ParamGroup]) -> dict[str, Stack]:
        return self.optimizer.slots(params, groups)

    def update_(
        self,
        params: Mapping[str, Tensor],
        grads: Mapping[str, Tensor],
        state: OptimizerState,
        groups: Sequence[ParamGroup],
        schedule: Tensor,
    ) -> None:
        for trial in range(len(schedule)):
            one = slice(trial, trial + 1)
            self.optimizer.update_(
                {name: stack[one] for name, stack in params.items()},
                {name: stack[one].contiguous() for name, stack in grads.items()},
                OptimizerState(
                    {
                        slot: {name: stack[one] for name, stack in stacks.items()}
                        for slot, stacks in state.slots.items()
                    },
                    state.step[one],
                ),
                [
                    ParamGroup(g.names, g.role, g.lr[one], g.weight_decay[one], g.eps[one])
                    for g in groups
                ],
                schedule[one],
            )
