"""A sweep on this machine: in worker processes, or in this process if none can be started."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from mutransfer_cli.proxies.reading import Note
from mutransfer_cli.sweep.choice import Settings
from mutransfer_cli.sweep.driver import Driver, Hear, Launcher, Observer
from mutransfer_cli.sweep.messages import Assignment
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.processes import Processes
from mutransfer_cli.sweep.spawn import CannotStart, Kind, Started, started
from mutransfer_cli.sweep.store import RecordStore
from mutransfer_cli.sweep.worker import Stopped, train_group
from mutransfer_cli.train.loop import Check


@dataclass(frozen=True)
class Workers:
    """Workers of this machine.

    Attributes:
        processes: None if the system starts none: then this process is the only worker.
    """

    kind: Kind
    count: int
    processes: Processes | None


@contextmanager
def started_workers(
    device: torch.device, count: int, note: Note, crew: list[Started] | None = None
) -> Iterator[Workers]:
    """Workers of this machine, ended on exit.

    Args:
        crew: processes that were started before torch was imported; None: start them now.
    """
    kind: Kind = "cuda" if device.type == "cuda" else "cpu"
    with contextlib.nullcontext(crew) if crew is not None else started(kind, count, note) as crew:
        processes = Processes(kind, crew) if crew else None
        try:
            yield Workers(kind, count, processes)
        finally:
            if processes is not None:
                processes.close(lambda message: None)


def run(
    sweep: Sweep,
    store: RecordStore,
    workers: Workers,
    settings: Settings,
    observer: Observer,
    check: Check,
) -> None:
    """Train every trial that has no finished record."""

    def drive(launcher: Launcher, sharing: int) -> None:
        how = replace(settings, sharing=sharing)
        kind, count = workers.kind, workers.count
        Driver(sweep, store, launcher, kind, count, how, observer).run(check)

    if workers.processes is not None:
        try:
            drive(workers.processes, workers.count if workers.kind == "cpu" else 1)
            return
        except CannotStart as error:
            observer.noted(error.sentence)
    drive(InThisProcess(check), sharing=1)


class InThisProcess:
    """A launcher whose only worker is the driver's own process."""

    at_once = 1

    def __init__(self, check: Check) -> None:
        self._check = check
        self._assignment: Assignment | None = None

    def begin(self, sweep: Sweep) -> None:
        self._sweep = sweep

    def has_room(self) -> bool:
        return self._assignment is None

    def submit(self, assignment: Assignment) -> None:
        self._assignment = assignment

    def poll(self, hear: Hear) -> None:
        """Train the group to its end."""
        assert self._assignment is not None, "polled while there is an attempt"
        assignment, self._assignment = self._assignment, None
        try:
            train_group(assignment, self._sweep, through(hear), through(self._check))
        except Stopped as stopped:
            raise stopped.args[0] from None
        gc.collect()  # frees graph, pool and compiled functions of the group
        if assignment.kind == "cuda":
            torch.cuda.empty_cache()

    def give_up(self, key: tuple[str, int]) -> None:
        """Do nothing: nobody listens while this process trains, so nobody gives it up."""

    def close(self, hear: Hear) -> None:
        """Do nothing: when the training has ended, no worker is left."""


def through(function: Callable[..., None]) -> Callable[..., None]:
    """The function with its errors raised as Stopped: they are the driver's, not the training's."""

    def call(*args: Any) -> None:
        try:
            function(*args)
        except BaseException as error:
            raise Stopped(error) from error

    return call
