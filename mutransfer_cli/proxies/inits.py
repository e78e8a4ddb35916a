"""The init of every parameter as the model's own code drew it: a constant, or mean and std."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

FEW = 64  # number of values that mostly suffice to see that not all are equal
SMALL = 0.1  # a mean below this share of the values' size is small
SURE = 5  # a difference of fewer standard errors is chance


@dataclass(frozen=True)
class Init:
    """Mean and std of one parameter's first values at the base width."""

    mean: float
    std: float


@dataclass(frozen=True)
class Drawn:
    """Number, mean and std of a parameter's values."""

    count: int
    mean: float
    std: float

    @classmethod
    def of(cls, values: Tensor) -> Drawn:
        found = values.detach().flatten()
        if not len(found) or bool((found[:FEW] == found[0]).all() and (found == found[0]).all()):
            return cls(len(found), float(found[0]) if len(found) else 0.0, 0.0)
        # the norm is many times faster than torch.std_mean, and means of weights are near 0
        mean = float(found.mean())
        rest = found if abs(mean) < SMALL * float(found[:FEW].abs().max()) else found - mean
        square = float(torch.linalg.vector_norm(rest)) ** 2 / len(found)
        return cls(len(found), mean, math.sqrt(square - mean**2 if rest is found else square))

    @property
    def has_mean(self) -> bool:
        """Whether the mean is further from 0 than chance."""
        return abs(self.mean) > SURE * self.std / math.sqrt(self.count)


def read_inits(model: nn.Module) -> dict[str, Init]:
    """The init of every parameter: a constant, or mean and std of its values.

    A mean that may be chance is 0. The same parameter of several blocks gets one init if the blocks
    differ by no more than chance.
    """
    found = {name: Drawn.of(parameter) for name, parameter in model.named_parameters()}
    inits = {name: Init(drawn.mean, 0.0) for name, drawn in found.items() if not drawn.std}
    alike: dict[tuple[str, int], list[str]] = {}
    for name, drawn in found.items():
        if drawn.std:
            alike.setdefault((in_any_block(name), drawn.count), []).append(name)
    for names in alike.values():
        pooled = common([found[name] for name in names])
        for name in names:
            drawn = pooled or found[name]
            inits[name] = Init(drawn.mean if drawn.has_mean else 0.0, drawn.std)
    return inits


def as_at_base(values: Tensor, mean: float, std: float) -> Tensor:
    """A draw with the mean and std that it has at the base width; the draw itself where its own
    differ from them by no more than chance."""
    found = Drawn.of(values)
    chance = SURE * std / math.sqrt(found.count)
    differs = abs(found.std - std) > chance / math.sqrt(2) or abs(found.mean - mean) > chance
    if not differs or not found.std:
        return values
    return (values - found.mean) * (std / found.std) + mean


def in_any_block(name: str) -> str:
    """A parameter's name without the numbers of blocks."""
    return ".".join("#" if part.isdigit() else part for part in name.split("."))


def common(drawn: Sequence[Drawn]) -> Drawn | None:
    """All values taken together; None if their stds or means differ by more than chance."""
    count = drawn[0].count
    std = math.sqrt(sum(d.std**2 for d in drawn) / len(drawn))
    mean = sum(d.mean for d in drawn) / len(drawn)
    chance = SURE * std / math.sqrt(count)
    alike = all(
        abs(d.std - std) <= chance / math.sqrt(2) and abs(d.mean - mean) <= chance for d in drawn
    )
    return Drawn(count * len(drawn), mean, std) if alike else None
