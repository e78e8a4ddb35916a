"""A Ray task that trains one group of trials, and what it says to the driver."""

from __future__ import annotations

import tempfile
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.files.records import ThroughputRecord, TrialRecord
from mutransfer_cli.sweep.choice import Settings
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.ray_cluster import Kind
from mutransfer_cli.sweep.store import Finished
from mutransfer_cli.sweep.training import train_queue
from mutransfer_cli.sweep.trials import Trial
from mutransfer_cli.train.device import choose_device
from mutransfer_cli.train.loop import Progress

SILENCE = 5.0  # seconds after which a worker that trains says so


@dataclass(frozen=True)
class Group:
    """Trials of one width for one task.

    Attributes:
        id: the same in every run of the same sweep.
    """

    id: str
    width: int
    trials: tuple[Trial, ...]

    @property
    def checkpoint(self) -> str:
        return f"checkpoint-{self.id}.pt"


@dataclass(frozen=True)
class Assignment:
    """What one task is to do.

    Attributes:
        attempt: from 1.
        trials: of the group, those without a record.
        folder: of the records on the driver; the checkpoint goes there where the worker sees it.
    """

    group: Group
    attempt: int
    trials: tuple[Trial, ...]
    folder: Path
    kind: Kind
    settings: Settings

    @property
    def checkpoint(self) -> Path:
        folder = self.folder if self.folder.is_dir() else Path(tempfile.gettempdir())
        return folder / self.group.checkpoint


@dataclass(frozen=True)
class Stepped:
    """Where a queue stands."""

    queue: str
    progress: Progress


# a str is a note to the user, None a sign of life
Content = Stepped | Finished | ThroughputRecord | str | None


@dataclass(frozen=True)
class Message:
    """From an attempt at a group."""

    group: str
    attempt: int
    content: Content

    def plain(self) -> tuple[str, int, str, Any]:
        """As values that need no class to be read: records as their lines."""
        kind: str
        value: Any
        match self.content:
            case Stepped(queue, progress):
                kind, value = "stepped", (queue, vars(progress))
            case Finished(records, curves, diagnostics):
                lines = [record.line() for record in records]
                kind, value = "finished", (lines, list(curves), list(diagnostics))
            case ThroughputRecord():
                kind, value = "throughput", self.content.line()
            case sentence:
                kind, value = "said", sentence
        return self.group, self.attempt, kind, value

    @classmethod
    def of(cls, plain: tuple[str, int, str, Any]) -> Message:
        group, attempt, kind, value = plain
        content: Content = value
        if kind == "stepped":
            content = Stepped(value[0], Progress(**value[1]))
        elif kind == "finished":
            lines, curves, diagnostics = value
            records = [TrialRecord.model_validate_json(line) for line in lines]
            content = Finished(records, curves, diagnostics)
        elif kind == "throughput":
            content = ThroughputRecord.model_validate_json(value)
        return cls(group, attempt, content)


class Mail:
    """The sink of a training whose driver is elsewhere."""

    def __init__(self, inbox: Any, assignment: Assignment) -> None:
        self._inbox, self._assignment = inbox, assignment
        self._sent = 0.0
        self.count = 0  # messages so far

    def send(self, content: Content) -> None:
        """Does not wait: Ray gives the CPU of a task that waits to a new process."""
        message = Message(self._assignment.group.id, self._assignment.attempt, content)
        self._inbox.put.remote(message.plain())
        self.count += 1
        self._sent = time.monotonic()

    def check(self) -> None:
        """Called before every step: a worker that is silent hangs."""
        if time.monotonic() - self._sent > SILENCE:
            self.send(None)

    def stepped(self, width: int, group: str, progress: Progress) -> None:
        self.send(Stepped(group, progress))

    def finished(self, found: Finished) -> None:
        self.send(found)

    def measured(self, throughput: ThroughputRecord) -> None:
        self.send(throughput)

    def noted(self, sentence: str) -> None:
        self.send(sentence)


def train_group(assignment: Assignment, sweep: Sweep, inbox: Any) -> int:
    """The body of a task; returns how many messages it has sent.

    Args:
        sweep: without its trials; its text lies in memory that the workers of a node share.
    """
    mail = Mail(inbox, assignment)
    mail.send(None)  # it has started
    group, settings = assignment.group, assignment.settings
    precision = sweep.protocol.train.precision
    device = choose_device(assignment.kind, precision, settings.deterministic)
    if device.type == "cpu":
        torch.set_num_threads(1)
    with warnings.catch_warnings():
        # shared memory is read-only, and nothing writes a text
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        text = DeviceText.on(device, sweep.corpus)
    mine = replace(sweep, trials={group.width: list(group.trials)})
    train_queue(mine, assignment.trials, text, settings, mail, mail.check, assignment.checkpoint)
    return mail.count
