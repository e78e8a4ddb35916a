"""The trials of a spec and the groups that train together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from mutransfer_cli.files.records import TrialRecord, trial_hash
from mutransfer_cli.files.spec import SweepGrid
from mutransfer_cli.files.yaml_io import content_hash
from mutransfer_cli.rules.plan import AxisName


@dataclass(frozen=True)
class Trial:
    """One proxy run; `id` is the hash of what determines its result."""

    id: str
    width: int
    seed: int
    axes: Mapping[AxisName, float]


@dataclass(frozen=True)
class Group:
    """Trials of one width that train together, and which of them still need a record."""

    trials: tuple[Trial, ...]
    missing: frozenset[str]

    @classmethod
    def of(cls, trials: Sequence[Trial], done: Collection[str]) -> Group:
        return cls(tuple(trials), frozenset(t.id for t in trials if t.id not in done))

    @property
    def id(self) -> str:
        return content_hash([trial.id for trial in self.trials], length=12)

    @property
    def width(self) -> int:
        return self.trials[0].width


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


def pending_groups(
    trials: Sequence[Trial], recorded: Mapping[str, TrialRecord], size: int
) -> list[Group]:
    """Groups of at most `size` that hold every trial without a finished record.

    A group whose records were cut short is formed again as it was, so that on a GPU, where results
    depend on the shape in the last digits, its trials end as they would have; only the missing
    records are new. If it cannot be formed again (another size or grid), only the rest is run.
    """
    done = {key: record for key, record in recorded.items() if record.status != "failed"}
    counts = Counter(record.group for record in done.values())
    half = {r.group: r.group_size for r in done.values() if counts[r.group] < r.group_size}
    candidates = [t for t in trials if t.id not in done or done[t.id].group in half]
    restored = [
        group
        for half_id, count in half.items()
        for start in range(len(candidates) - count + 1)
        if (group := Group.of(candidates[start : start + count], done)).id == half_id
    ]
    taken = set(done).union(*(group.missing for group in restored))
    rest = [trial for trial in trials if trial.id not in taken]
    return restored + [Group.of(chunk, done) for chunk in _even_chunks(rest, size)]


def _even_chunks(trials: Sequence[Trial], size: int) -> list[Sequence[Trial]]:
    """As few chunks as `size` allows, of sizes that differ by at most one, larger ones first."""
    count = -(-len(trials) // size)
    chunks, start = [], 0
    for index in range(count):
        length = -(-(len(trials) - start) // (count - index))
        chunks.append(trials[start : start + length])
        start += length
    return chunks
