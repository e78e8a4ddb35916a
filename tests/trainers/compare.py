"""Values that arrive in a trainer, compared with the recipe parameter by parameter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mutransfer_cli.rules.plan import PlannedParameter

CHANCE = 5  # standard errors of a measured std


@dataclass(frozen=True)
class Arrived:
    """Values of one parameter as a trainer has them before its first step."""

    lr: float
    """The peak that its schedule multiplies."""
    weight_decay: float
    """In the lr-coupled convention."""
    eps: float
    betas: tuple[float, float]
    mean: float
    std: float
    count: int
    """Number of its values."""


@dataclass(frozen=True)
class Row:
    """Largest relative deviations of one trainer from the recipe."""

    trainer: str
    """Name, version and what it built."""
    parameters: int
    lr: float
    weight_decay: float
    eps: float
    betas: float
    std: float
    allowed_std: float
    """The deviation of the worst std that chance alone would allow."""
    steps: str
    """The result of two steps."""


ROWS: list[Row] = []


def compared(
    trainer: str,
    arrived: Mapping[str, Arrived],
    plan: Mapping[str, PlannedParameter],
    steps: str,
) -> Row:
    """Compare all parameters, keep the row for the table of the session, and return it.

    Args:
        arrived: by the names of `plan`.
    """
    assert set(arrived) == set(plan), "every parameter is compared, and no other"
    worst = dict.fromkeys(("lr", "weight_decay", "eps", "betas"), 0.0)
    std, allowed = 0.0, 0.0
    for name, found in arrived.items():
        wanted = plan[name]
        pairs = {key: (getattr(found, key), getattr(wanted, key)) for key in worst}
        betas = zip(*pairs.pop("betas"), strict=True)
        for key, (there, here) in pairs.items():
            worst[key] = max(worst[key], relative(there, here))
        worst["betas"] = max(worst["betas"], *(relative(there, here) for there, here in betas))
        assert wanted.init_std is not None
        chance = CHANCE / math.sqrt(2 * found.count) if wanted.init_std else 0.0
        deviation = relative(found.std, wanted.init_std)
        assert deviation <= chance, (name, found.std, wanted.init_std)
        assert abs(found.mean - wanted.init_mean) <= CHANCE * wanted.init_std / found.count**0.5
        if deviation >= std:
            std, allowed = deviation, chance
    row = Row(trainer, len(arrived), **worst, std=std, allowed_std=allowed, steps=steps)
    ROWS.append(row)
    return row


def relative(found: float, wanted: float | None) -> float:
    """The deviation as a share of the wanted value; infinite where that is 0 and it is not."""
    assert wanted is not None
    if found == wanted:
        return 0.0
    return abs(found - wanted) / abs(wanted) if wanted else math.inf


def table() -> str:
    """The rows in Markdown."""
    lines = [
        "| trainer | parameters | lr | weight decay | eps | betas | std (chance) | two steps |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        values = " | ".join(
            f"{getattr(row, key):.1g}" for key in ("lr", "weight_decay", "eps", "betas")
        )
        std = f"{row.std:.2g} ({row.allowed_std:.2g})"
        lines.append(f"| {row.trainer} | {row.parameters} | {values} | {std} | {row.steps} |")
    return "\n".join(lines)
