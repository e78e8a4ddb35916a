"""The init of a model, as its own code makes it: constants, or the std of normal values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Note = Callable[[str], None]

FEW = 64  # values that show most often that not all are equal
SMALL = 0.1  # of a mean against values
SURE = 5  # standard errors; fewer are the noise of few values


def silent(sentence: str) -> None:
    pass


@dataclass(frozen=True)
class Init:
    """Of one parameter at the base width."""

    mean: float
    std: float


@dataclass(frozen=True)
class Drawn:
    """Values of a parameter: how many, their mean and std."""

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


def read_inits(model: nn.Module, note: Note = silent) -> dict[str, Init]:
    """A constant is kept as it is; all else is taken for normal values around 0.

    The same parameter of several blocks gets one std, if they differ by no more than chance.
    """
    found = {name: Drawn.of(parameter) for name, parameter in model.named_parameters()}
    alike: dict[tuple[str, int], list[str]] = {}
    for name, drawn in found.items():
        if drawn.std:
            in_any_block = ".".join("#" if part.isdigit() else part for part in name.split("."))
            alike.setdefault((in_any_block, drawn.count), []).append(name)
        if drawn.std and abs(drawn.mean) > SURE * drawn.std / math.sqrt(drawn.count):
            note(
                f"{name}: its own init has mean {drawn.mean:.3g} and std {drawn.std:.3g}; it gets "
                "normal values of that std around 0"
            )
    stds = {name: drawn.std for name, drawn in found.items()}
    for names in alike.values():
        stds |= dict.fromkeys(names, pooled) if (pooled := common(found, names)) else {}
    return {
        name: Init(0.0 if drawn.std else drawn.mean, stds[name]) for name, drawn in found.items()
    }


def common(found: dict[str, Drawn], names: Sequence[str]) -> float:
    """The std of all of them; 0 where they do not share one."""
    pooled = math.sqrt(sum(found[name].std ** 2 for name in names) / len(names))
    chance = SURE * pooled / math.sqrt(2 * found[names[0]].count)
    return pooled if all(abs(found[name].std - pooled) <= chance for name in names) else 0.0
