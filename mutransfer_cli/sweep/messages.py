"""The messages that a sweep's driver and its workers exchange, and the groups they are about."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mutransfer_cli.errors import MutransferError
from mutransfer_cli.spec.records import ThroughputRecord
from mutransfer_cli.sweep.choice import Fault, Rung, Settings
from mutransfer_cli.sweep.prepare import Trial, name_of
from mutransfer_cli.sweep.spawn import Kind
from mutransfer_cli.sweep.store import Finished
from mutransfer_cli.train.loop import Progress


@dataclass(frozen=True)
class Group:
    """Trials of one width for one worker; every run with as many workers has the same groups."""

    width: int
    trials: tuple[Trial, ...]

    @cached_property
    def id(self) -> str:
        return name_of(self.trials)

    @property
    def checkpoint(self) -> str:
        return f"checkpoint-{self.id}.pt"


@dataclass(frozen=True)
class Assignment:
    """One attempt at a group.

    Attributes:
        attempt: its number, from 1.
        trials: the trials of the group that have no finished record.
        folder: the driver's folder of records; the checkpoint goes there if the worker sees it.
        older: names of checkpoints of other groups, which may hold some of the trials.
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

    @cached_property
    def queue(self) -> str:
        """The name of these trials in progress and records."""
        return name_of(self.trials)

    @property
    def checkpoint(self) -> Path:
        folder = self.folder if self.folder.is_dir() else Path(tempfile.gettempdir())
        return folder / self.group.checkpoint


@dataclass(frozen=True)
class Failed:
    """The end of an attempt that raised an error or lost its worker.

    Attributes:
        reason: for the user; it follows a comma.
        died: the process was lost, so that another one may succeed; otherwise it raised an error.
    """

    reason: str
    fault: Fault
    died: bool


@dataclass(frozen=True)
class Refused:
    """The end of an attempt that needs a change by the user."""

    error: MutransferError


@dataclass(frozen=True)
class Done:
    """The end of an attempt that trained all its trials."""


End = Failed | Refused | Done
# a Rung is the one that was chosen, a str a note to the user, None a sign of life
Content = Progress | Finished | ThroughputRecord | Rung | End | str | None


@dataclass(frozen=True)
class Message:
    """A message from an attempt at a group, or about it."""

    group: str
    attempt: int
    content: Content

    @property
    def key(self) -> tuple[str, int]:
        return self.group, self.attempt
