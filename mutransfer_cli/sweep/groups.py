"""Groups of trials for one worker each, and what a worker and its driver say to each other."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mutransfer_cli.files.records import ThroughputRecord
from mutransfer_cli.files.yaml_io import content_hash
from mutransfer_cli.sweep.choice import Settings
from mutransfer_cli.sweep.ladder import Fault, Rung
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.spawn import Kind
from mutransfer_cli.sweep.store import Finished
from mutransfer_cli.sweep.training import Stepped
from mutransfer_cli.sweep.trials import Trial
from mutransfer_cli.train.group_size import slot_count, useful_slots


@dataclass(frozen=True)
class Group:
    """Trials of one width for one worker.

    Attributes:
        id: the same in every run of the same sweep with as many workers.
    """

    id: str
    width: int
    trials: tuple[Trial, ...]

    @property
    def checkpoint(self) -> str:
        return f"checkpoint-{self.id}.pt"


def cut(sweep: Sweep, kind: Kind, workers: int | None) -> list[Group]:
    """Groups of every width. Recorded trials count, so that a rerun has the same groups and finds
    their checkpoints.

    Args:
        workers: that share the sweep. The trials of a width stay together, which is fastest, but
            none of several workers gets more than half its share of the work in one group. None:
            as many as there will be; a group has as many trials as keep one busy.
    """
    costs = {width: sweep.cost(width).flops * len(found) for width, found in sweep.trials.items()}
    groups = []
    for width, trials in sweep.trials.items():
        if workers is None:
            size = slot_count(len(trials), useful_slots(sweep.protocol, width, kind))
        else:
            shares = 2 * workers * costs[width] / sum(costs.values())
            size = math.ceil(len(trials) / (math.ceil(shares) if workers > 1 else 1))
        for first in range(0, len(trials), size):
            part = tuple(trials[first : first + size])
            name = content_hash([trial.id for trial in part], length=12)
            groups.append(Group(name, width, part))
    return groups


@dataclass(frozen=True)
class Assignment:
    """One attempt at a group.

    Attributes:
        attempt: from 1.
        trials: of the group, those without a record.
        folder: of the records on the driver; the checkpoint goes there if the worker sees it.
        older: names of checkpoints of groups that were cut otherwise; trials go on from them too.
        limit: the most that may be tried.
    """

    group: Group
    attempt: int
    trials: tuple[Trial, ...]
    folder: Path
    older: tuple[str, ...]
    kind: Kind
    settings: Settings
    limit: Rung

    @property
    def key(self) -> tuple[str, int]:
        return self.group.id, self.attempt

    @property
    def checkpoint(self) -> Path:
        folder = self.folder if self.folder.is_dir() else Path(tempfile.gettempdir())
        return folder / self.group.checkpoint


@dataclass(frozen=True)
class Failed:
    """The end of an attempt that raised an error, or whose worker was lost.

    Attributes:
        reason: for the user, to follow a comma.
        died: the process was lost: another may have more luck. Else it raised an error.
    """

    reason: str
    fault: Fault
    died: bool


@dataclass(frozen=True)
class Refused:
    """The end of an attempt at something that the user has to change.

    Attributes:
        error: name of the class in `errors`.
    """

    error: str
    sentence: str


@dataclass(frozen=True)
class Done:
    """The end of an attempt that trained all its trials."""


End = Failed | Refused | Done
# a Rung is the one chosen, a str a note to the user, None a sign of life
Content = Stepped | Finished | ThroughputRecord | Rung | End | str | None


@dataclass(frozen=True)
class Message:
    """From an attempt at a group, or about it."""

    group: str
    attempt: int
    content: Content

    @property
    def key(self) -> tuple[str, int]:
        return self.group, self.attempt
