"""Differences between an optimizer and a recipe, and the cells in which they are looked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mutransfer_cli.recipe.patterns import ALL, named_count
from mutransfer_cli.rules.plan import PlannedParameter

DifferenceName = Literal[
    "missing",
    "twice",
    "foreign",
    "optimizer",
    "one_rate",
    "scaled_twice",
    "lr",
    "schedule",
    "scheduler",
    "weight_decay",
    "decay_convention",
    "eps",
    "betas",
    "clip",
    "attention_scale",
]


@dataclass(frozen=True)
class Difference:
    """One way in which an optimizer differs from the recipe."""

    name: DifferenceName
    """Kind of difference."""
    parameters: tuple[str, ...]
    """Names of the parameters concerned."""
    sentence: str
    """What differs, where, and what to do."""


@dataclass(frozen=True)
class Cell:
    """Parameters of a role with equal values that are in the same group of the optimizer."""

    wanted: PlannedParameter
    names: tuple[str, ...]
    group: int

    def __str__(self) -> str:
        return f"{self.wanted.role or ALL} ({named_count(self.names)})"
