"""Which group of an optimizer holds which parameters of a recipe."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from mutransfer_cli.apply.claims import listed, named_count
from mutransfer_cli.apply.groups import ALL, settings_of
from mutransfer_cli.apply.target import TargetParameter, Targets

CLOSE = 1e-3  # of a value: what rounding in a config file does is no difference

DifferenceName = Literal[
    "missing",
    "twice",
    "foreign",
    "one_rate",
    "scaled_twice",
    "lr",
    "schedule",
    "weight_decay",
    "decay_convention",
    "eps",
    "betas",
]


@dataclass(frozen=True)
class Difference:
    """One thing in which an optimizer is not as the recipe says.

    Attributes:
        name: what kind.
        parameters: names of those concerned.
        sentence: what, where and what to do.
    """

    name: DifferenceName
    parameters: tuple[str, ...]
    sentence: str


@dataclass(frozen=True)
class Cell:
    """Parameters of a role with equal values that are in the same group of the optimizer."""

    wanted: TargetParameter
    names: tuple[str, ...]
    group: int

    @property
    def role(self) -> str:
        return self.wanted.role or ALL

    def __str__(self) -> str:
        return f"{self.role} ({named_count(self.names)})"


def close(one: float, other: float, tolerance: float = CLOSE) -> bool:
    return math.isclose(one, other, rel_tol=tolerance)


def membership(
    targets: Targets, optimizer: torch.optim.Optimizer, others: frozenset[int]
) -> tuple[list[Cell], list[Difference]]:
    """
    Args:
        others: ids of parameters of the model that are none of the targets.
    """
    places: dict[int, list[int]] = {}
    for index, group in enumerate(optimizer.param_groups):
        for parameter in group["params"]:
            places.setdefault(id(parameter), []).append(index)
    merged: dict[tuple[object, ...], tuple[TargetParameter, list[str], int]] = {}
    missing, twice = [], []
    for claimed, target in targets:
        found = places.pop(id(claimed.tensor), [])
        if not found:
            missing.append(target.name)
            continue
        if len(found) > 1:
            twice.append(target.name)
        key = (target.role, *settings_of(target).values(), found[0])
        merged.setdefault(key, (target, [], found[0]))[1].append(target.name)
    foreign = sum(place not in others for place in places)
    cells = [Cell(target, tuple(names), group) for target, names, group in merged.values()]
    return cells, _membership_differences(missing, twice, foreign)


def _membership_differences(
    missing: Sequence[str], twice: Sequence[str], foreign: int
) -> list[Difference]:
    found = []
    if missing:
        sentence = (
            f"{listed(missing)}: not in the optimizer, so that nothing trains it; build the "
            "optimizer from recipe.param_groups(model) after the model is built and moved"
        )
        found.append(Difference("missing", tuple(missing), sentence))
    if twice:
        sentence = f"{listed(twice)}: more than once in the optimizer, and updated as often"
        found.append(Difference("twice", tuple(twice), sentence))
    if foreign:
        sentence = (
            f"{foreign} tensors in the optimizer are no parameters of the model: it was built for "
            "another model, or holds copies of the weights; verify it with those"
        )
        found.append(Difference("foreign", (), sentence))
    return found
