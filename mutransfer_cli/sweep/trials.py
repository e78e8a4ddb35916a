"""The trials of a spec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from mutransfer_cli.files.records import TrialRecord, trial_hash
from mutransfer_cli.files.spec import SweepGrid
from mutransfer_cli.rules.plan import AxisName


@dataclass(frozen=True, slots=True)  # there may be a million
class Trial:
    """One proxy run; `id` is the hash of what determines its result."""

    id: str
    width: int
    seed: int
    axes: Mapping[AxisName, float]


def expand(grid: SweepGrid, protocol_hash: str) -> dict[int, list[Trial]]:
    """All trials by width, ascending; within a width by seed, then the axes, lr fastest."""
    names = sorted(grid.axes, reverse=True)
    combinations = [
        dict(zip(names, values, strict=True))
        for values in product(*(sorted(grid.axes[name]) for name in names))
    ]
    return {
        width: [
            Trial(trial_hash(protocol_hash, width, seed, axes), width, seed, axes)
            for seed in sorted(grid.seeds)
            for axes in combinations
        ]
        for width in sorted(grid.widths)
    }


def pending(trials: Sequence[Trial], recorded: Mapping[str, TrialRecord]) -> list[Trial]:
    """The trials without a finished record."""
    done = {key for key, record in recorded.items() if record.status != "failed"}
    return [trial for trial in trials if trial.id not in done]
