"""Settings of an optimizer, now and after scheduler steps that are tried on a copy."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from mutransfer_cli.errors import InputError
from mutransfer_cli.recipe.optimizer_class import Grouped, Held, has_groups, layers


class Stepped(Protocol):
    """A scheduler: `step()` changes the groups of the optimizer it holds."""

    def step(self) -> Any: ...


@dataclass(frozen=True)
class Settings:
    """Settings of one group; None where it has no such key."""

    lr: float | None
    peak: float | None
    """The rate that a schedule multiplies, where the group or the scheduler holds it."""
    weight_decay: float | None
    eps: float | tuple[float, ...] | None
    """Adafactor has two."""
    betas: tuple[float, ...] | None
    cycled: tuple[float, float] | None
    """Least and greatest momentum (or first beta) of a schedule that changes it."""
    adds_decay_to_gradient: bool
    rounding: float
    """Rounding error of its rates, as a share of the peak."""


def settings(held: Sequence[Held], peaks: Mapping[int, float]) -> list[Settings]:
    """The settings of every group, in order.

    Args:
        peaks: peaks that the scheduler holds, by id of the group.
    """
    return [_of_group(each, peaks.get(id(each.group))) for each in held]


def _of_group(held: Held, peak: float | None) -> Settings:
    group = held.group
    # one-cycle schedules start at initial_lr below the peak
    peaks = (_number(group.get("max_lr")), peak, _number(group.get("initial_lr")))
    low, high = _number(group.get("base_momentum")), _number(group.get("max_momentum"))
    return Settings(
        lr=_number(group.get("lr")),
        peak=next((found for found in peaks if found is not None), None),
        weight_decay=_number(group.get("weight_decay")),
        eps=_numbers(group.get("eps")) or _number(group.get("eps")),
        betas=_numbers(group.get("betas")),
        cycled=None if low is None or high is None or low == high else (low, high),
        adds_decay_to_gradient=held.adds_decay_to_gradient,
        rounding=1e-6 if isinstance(group.get("lr"), torch.Tensor) else 1e-9,
    )


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float | torch.Tensor)
    return float(value) if is_number else None  # type: ignore[arg-type]


def _numbers(value: object) -> tuple[float, ...] | None:
    if not isinstance(value, list | tuple):
        return None
    found = (_number(each) for each in value)
    return tuple(each for each in found if each is not None)


@dataclass(frozen=True)
class Reach:
    """Optimizers and groups that a scheduler holds, itself or in schedulers inside it."""

    schedulers: tuple[Any, ...]
    optimizers: tuple[Any, ...]
    groups: tuple[dict[str, Any], ...]
    """Groups that it holds by themselves, not through an optimizer."""

    @property
    def group_ids(self) -> frozenset[int]:
        """Ids of all groups that its steps can change."""
        held = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        return frozenset(map(id, [*held, *self.groups]))

    @property
    def late_ids(self) -> frozenset[int]:
        """Ids of groups that an optimizer got after torch's scheduler was made."""
        return frozenset(
            id(group)
            for scheduler in self.schedulers
            if isinstance(rates := getattr(scheduler, "base_lrs", None), list)
            for group in getattr(getattr(scheduler, "optimizer", None), "param_groups", [])[
                len(rates) :
            ]
        )

    @property
    def peaks(self) -> dict[int, float]:
        """Greatest rates that a scheduler holds itself (CyclicLR), by id of the group."""
        return {
            id(group): float(peak)
            for scheduler in self.schedulers
            if isinstance(peaks := getattr(scheduler, "max_lrs", None), list)
            for group, peak in zip(
                getattr(getattr(scheduler, "optimizer", None), "param_groups", []),
                peaks,
                strict=False,
            )
        }


def reach_of(scheduler: Any) -> Reach:
    """Look for optimizers and groups in a scheduler, in those inside it, and in their lists.

    What a function holds is not seen.
    """
    schedulers, optimizers, groups = [], [], []
    seen: dict[int, Any] = {}
    todo = [scheduler]
    while todo:
        at = todo.pop()
        if id(at) in seen or isinstance(at, torch.Tensor | torch.nn.Module | str):
            continue
        seen[id(at)] = at
        if isinstance(at, dict) and {"params", "lr"} <= at.keys():
            groups.append(at)
        elif isinstance(at, dict):
            todo += at.values()
        elif isinstance(at, list | tuple):
            todo += at
        elif has_groups(at) and callable(getattr(at, "zero_grad", None)):
            optimizers.append(at)
        elif callable(getattr(at, "step", None)):
            schedulers.append(at)
            todo += getattr(at, "__dict__", {}).values()
    return Reach(tuple(schedulers), tuple(optimizers), tuple(groups))


Saved = list[tuple[dict[str, Any], dict[str, tuple[Any, torch.Tensor | None]]]]


def settings_ahead(
    held: Sequence[Held], optimizer: Grouped, scheduler: Stepped, reach: Reach, steps: int
) -> Iterator[list[Settings]]:
    """The settings after each of `steps` steps of a copy of the scheduler.

    The copy changes the groups of the optimizer itself, which are restored afterwards.

    Args:
        held: the groups of the optimizer.
        reach: what the scheduler holds.

    Raises:
        InputError: the scheduler cannot be copied, its step needs arguments, or it steps the
            optimizer too.
    """
    found = (layer for each in (optimizer, *reach.optimizers) for layer in layers(each))
    shared = list({id(layer): layer for layer in found}.values())
    groups = [group for layer in shared for group in layer.param_groups]
    groups += [each.group for each in held]
    # the copy shares optimizers and weights, so that it is small
    memo: dict[int, Any] = {id(layer): layer for layer in shared}
    memo |= {id(p): p for group in [*groups, *reach.groups] for p in group["params"]}
    own = frozenset(id(each.group) for each in held)
    memo |= {id(group): group for group in reach.groups if id(group) in own}
    saved, peaks = _values(groups), reach.peaks
    try:
        with _unstepped(shared, scheduler):
            ahead = copy.deepcopy(scheduler, memo)
            for _ in range(steps):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # torch expects an optimizer step first
                    ahead.step()
                yield settings(held, peaks)
    except (TypeError, AttributeError, RuntimeError, ValueError, LookupError) as error:
        raise InputError(
            f"the scheduler {type(scheduler).__name__} cannot be stepped on a copy ({error}); "
            "leave it out, and verify again after its first step"
        ) from error
    finally:
        _restore(saved)


@contextmanager
def _unstepped(optimizers: Sequence[Any], scheduler: Stepped) -> Iterator[None]:
    """Keep optimizers from being stepped, as that would change the weights."""

    def step(*args: object, **kwargs: object) -> None:
        raise InputError(
            f"the step of {type(scheduler).__name__} also steps the optimizer, which would change "
            "the weights; leave it out, and verify again after its first step"
        )

    before = [(each, vars(each).get("step")) for each in optimizers]
    for each in optimizers:
        vars(each)["step"] = step
    try:
        yield
    finally:
        for each, own in before:
            if own is None:
                del vars(each)["step"]
            else:
                vars(each)["step"] = own


def _values(groups: Sequence[dict[str, Any]]) -> Saved:
    """All values of all groups; tensors, which steps fill in place, also as copies."""
    once = {id(group): group for group in groups}
    return [
        (
            group,
            {
                key: (value, value.clone() if torch.is_tensor(value) else None)
                for key, value in group.items()
                if key != "params"
            },
        )
        for group in once.values()
    ]


def _restore(saved: Saved) -> None:
    for group, values in saved:
        for key in group.keys() - values.keys() - {"params"}:
            del group[key]
        for key, (value, copied) in values.items():
            group[key] = value
            if copied is not None:
                value.copy_(copied)
