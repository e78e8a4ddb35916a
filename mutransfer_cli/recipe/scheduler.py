"""Settings of an optimizer, now and after scheduler steps that are tried on a copy."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from mutransfer_cli.errors import InputError


class Stepped(Protocol):
    """A scheduler: `step()` changes the groups of the optimizer it holds."""

    def step(self) -> Any: ...


@dataclass(frozen=True)
class Settings:
    """Settings of one group; None where it has no such key."""

    lr: float
    peak: float | None
    """The rate that a schedule multiplies, where the group holds it."""
    weight_decay: float | None
    eps: float | None
    betas: tuple[float, ...] | None
    l2: bool
    """Whether weight decay is added to the gradient."""
    rounding: float
    """Rounding error of its rates, as a share of the peak."""


Saved = list[dict[str, tuple[Any, torch.Tensor | None]]]


def settings(optimizer: torch.optim.Optimizer) -> list[Settings]:
    """The settings of every group, in order."""
    l2 = isinstance(optimizer, torch.optim.SGD)
    return [_of_group(group, l2) for group in optimizer.param_groups]


def _of_group(group: dict[str, Any], l2: bool) -> Settings:
    def number(key: str) -> float | None:
        return None if group.get(key) is None else float(group[key])

    # one-cycle schedules start at initial_lr below the peak
    peak = number("max_lr")
    betas = group.get("betas")
    return Settings(
        lr=float(group["lr"]),
        peak=number("initial_lr") if peak is None else peak,
        weight_decay=number("weight_decay"),
        eps=number("eps"),
        betas=None if betas is None else tuple(float(beta) for beta in betas),
        l2=l2 or group.get("decoupled_weight_decay") is False,
        rounding=1e-6 if isinstance(group["lr"], torch.Tensor) else 1e-9,
    )


def settings_ahead(
    optimizer: torch.optim.Optimizer, scheduler: Stepped, steps: int
) -> Iterator[list[Settings]]:
    """The settings after each of `steps` steps of a copy of the scheduler.

    The copy changes the groups of the optimizer itself, which are restored afterwards.

    Raises:
        InputError: the scheduler cannot be copied, or its step needs arguments.
    """
    # the copy shares optimizer and weights, so that it is small
    memo: dict[int, Any] = {id(p): p for group in optimizer.param_groups for p in group["params"]}
    memo[id(optimizer)] = optimizer
    saved = _values(optimizer)
    try:
        ahead = copy.deepcopy(scheduler, memo)
        for _ in range(steps):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch expects an optimizer step first
                ahead.step()
            yield settings(optimizer)
    except (TypeError, AttributeError, RuntimeError, ValueError) as error:
        raise InputError(
            f"the scheduler {type(scheduler).__name__} cannot be stepped on a copy ({error}); "
            "leave it out, and verify again after its first step"
        ) from error
    finally:
        _restore(optimizer, saved)


def _values(optimizer: torch.optim.Optimizer) -> Saved:
    """All values of all groups; tensors, which steps fill in place, also as copies."""
    return [
        {
            key: (value, value.clone() if torch.is_tensor(value) else None)
            for key, value in group.items()
            if key != "params"
        }
        for group in optimizer.param_groups
    ]


def _restore(optimizer: torch.optim.Optimizer, saved: Saved) -> None:
    for group, values in zip(optimizer.param_groups, saved, strict=True):
        for key in group.keys() - values.keys() - {"params"}:
            del group[key]
        for key, (value, copied) in values.items():
            group[key] = value
            if copied is not None:
                value.copy_(copied)
