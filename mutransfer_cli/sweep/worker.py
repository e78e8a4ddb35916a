"""Groups of trials for one worker each, and what a worker and its driver say to each other.

MERGED:
The one function that trains, in whatever process: a group of trials, reported in messages."""

from __future__ import annotations

import math
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.errors import MutransferError
from mutransfer_cli.spec.records import ThroughputRecord
from mutransfer_cli.spec.yaml_io import content_hash
from mutransfer_cli.sweep.choice import Fault, Rung, Settings
from mutransfer_cli.sweep.prepare import Sweep, Trial
from mutransfer_cli.sweep.spawn import Kind
from mutransfer_cli.sweep.store import Finished
from mutransfer_cli.sweep.training import Stepped, train_queue
from mutransfer_cli.train.capture import AsksTheHost
from mutransfer_cli.train.device import choose_device, is_out_of_memory
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


SILENCE = 5.0  # seconds after which a worker that trains says so


class Stopped(BaseException):
    """Raised between two steps to end a training that its driver no longer wants.

    Holds the driver's error where driver and worker are one process.
    """


class Mail:
    """Sends the messages of a training to its driver.

    Args:
        check: called before every step; raises to stop there.
    """

    def __init__(
        self, assignment: Assignment, post: Callable[[Message], None], check: Callable[[], None]
    ) -> None:
        self._assignment, self._post, self._check = assignment, post, check
        self._sent = 0.0

    def send(self, content: Content) -> None:
        self._post(Message(*self._assignment.key, content))
        self._sent = time.monotonic()

    def check(self) -> None:
        """Stops the training if it is to stop; else gives a sign of life: who is silent hangs."""
        self._check()
        if time.monotonic() - self._sent > SILENCE:
            self.send(None)


def train_group(
    assignment: Assignment,
    sweep: Sweep,
    post: Callable[[Message], None],
    check: Callable[[], None] = lambda: None,
) -> None:
    """Makes an attempt at a group; its last message says how it ended.

    Args:
        sweep: with or without trials, which come with the group.
        check: called before every step; raises Stopped to end the attempt there.
    """
    mail = Mail(assignment, post, check)
    mail.send(None)  # it has started
    try:
        train(assignment, sweep, mail)
    except MutransferError as error:
        mail.send(Refused(type(error).__name__, str(error)))
    except Exception as error:
        mail.send(Failed(reason_of(error), fault_of(error), died=False))
    else:
        mail.send(Done())


def train(assignment: Assignment, sweep: Sweep, mail: Mail) -> None:
    group, settings = assignment.group, assignment.settings
    precision = sweep.protocol.train.precision
    device = choose_device(assignment.kind, precision, settings.deterministic)
    if device.type == "cpu":
        torch.set_num_threads(1)  # results may depend on how many there are
    with warnings.catch_warnings():
        # memory that processes share is read-only, and nothing writes a text
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        text = DeviceText.on(device, sweep.corpus)
    mine = replace(sweep, trials={group.width: list(group.trials)})
    older = [assignment.checkpoint.with_name(name) for name in assignment.older]
    train_queue(
        mine,
        assignment.trials,
        text,
        settings,
        assignment.limit,
        mail.send,
        mail.check,
        assignment.checkpoint,
        older,
    )


def fault_of(error: Exception) -> Fault:
    if is_out_of_memory(error):
        return "memory"
    return "capture" if isinstance(error, AsksTheHost) else "rung"


def reason_of(error: Exception) -> str:
    """The error's first line, with the line of the program that raised it."""
    line = (str(error).splitlines() or [""])[0]
    if isinstance(error, AsksTheHost):
        return line
    frames = traceback.extract_tb(error.__traceback__)
    at = frames[-1]
    return f"{type(error).__name__}: {line} ({Path(at.filename).name}:{at.lineno})"
