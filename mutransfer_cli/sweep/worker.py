"""The one function that trains, in whatever process: a group of trials, reported in messages."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.errors import MutransferError
from mutransfer_cli.sweep.groups import Assignment, Content, Done, Failed, Message, Refused
from mutransfer_cli.sweep.ladder import Fault
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.training import train_queue
from mutransfer_cli.train.capture import AsksTheHost
from mutransfer_cli.train.device import choose_device
from mutransfer_cli.train.memory import is_out_of_memory

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
