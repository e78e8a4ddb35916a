"""A sweep on this machine: in worker processes, or in this process where none can be started."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.reading import Note
from mutransfer_cli.sweep.choice import Settings
from mutransfer_cli.sweep.driver import Driver, Hear, Launcher, Observer
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.processes import Processes
from mutransfer_cli.sweep.spawn import CannotStart, Kind, Started, started
from mutransfer_cli.sweep.store import RecordStore
from mutransfer_cli.sweep.worker import Assignment, Stopped, train_group
from mutransfer_cli.train.cgroups import usable_cores


def worker_count(asked: int | None, device: torch.device, trials: int) -> int:
    """The number of workers: those asked for, else one for each GPU or usable core; never more than
    there are trials.

    Raises:
        InputError: more workers than GPUs.
    """
    if kind_of(device) == "cpu":
        return min(asked or usable_cores(), trials)
    gpus = torch.cuda.device_count()
    if asked is not None and asked > gpus:
        raise InputError(
            f"--workers {asked}: torch sees {gpus} CUDA device{'s' if gpus > 1 else ''}, and each "
            f"worker needs one of its own; use --workers {gpus}, or leave it out"
        )
    return min(asked or gpus, trials)


def kind_of(device: torch.device) -> Kind:
    return "cuda" if device.type == "cuda" else "cpu"


@dataclass(frozen=True)
class Workers:
    """Workers of this machine.

    Attributes:
        timeout: seconds without a word from a worker, after which it is given up.
        processes: None where the system starts none: this process is the one worker.
    """

    kind: Kind
    count: int
    timeout: float
    processes: Processes | None


@contextmanager
def started_workers(
    device: torch.device,
    count: int,
    timeout: float,
    note: Note,
    crew: list[Started] | None = None,
) -> Iterator[Workers]:
    """Workers of this machine.

    Args:
        crew: processes that were started before torch was there; None: they are started now.
    """
    kind = kind_of(device)
    with contextlib.nullcontext(crew) if crew is not None else started(kind, count, note) as crew:
        processes = Processes(kind, crew) if crew else None
        try:
            yield Workers(kind, count, timeout, processes)
        finally:
            if processes is not None:
                processes.close(lambda message: None)


def run(
    sweep: Sweep,
    store: RecordStore,
    workers: Workers,
    settings: Settings,
    observer: Observer,
    emit: Callable[[bytes], None],
    check: Callable[[], None],
) -> None:
    """Trains every trial that has no finished record.

    Args:
        emit: gets what is appended to the record file.
        check: called several times a second; raises to stop the sweep there.
    """

    def train(launcher: Launcher, sharing: int) -> None:
        how = replace(settings, sharing=sharing)
        Driver(
            sweep,
            store,
            launcher,
            workers.kind,
            workers.count,
            how,
            workers.timeout,
            observer,
            emit,
        ).run(check)

    if workers.processes is not None:
        try:
            train(workers.processes, workers.count if workers.kind == "cpu" else 1)
            return
        except CannotStart as error:
            observer.noted(error.sentence)
    train(InThisProcess(check), sharing=1)


class InThisProcess:
    """A launcher whose one worker is the driver's own process.

    Args:
        check: called at every step; raises to stop the sweep there.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._assignment: Assignment | None = None

    def begin(self, sweep: Sweep) -> None:
        self._sweep = sweep

    def has_room(self) -> bool:
        return self._assignment is None

    def submit(self, assignment: Assignment) -> None:
        self._assignment = assignment

    def poll(self, hear: Hear) -> None:
        """Trains the group to its end."""
        assert self._assignment is not None, "polled while there is an attempt"
        assignment, self._assignment = self._assignment, None
        try:
            train_group(assignment, self._sweep, through(hear), through(self._check))
        except Stopped as stopped:
            raise stopped.args[0] from None
        gc.collect()  # graph, pool and compiled functions of the group
        if assignment.kind == "cuda":
            torch.cuda.empty_cache()

    def give_up(self, key: tuple[str, int]) -> None:
        """Does nothing: nobody listens while this process trains, and so nobody gives it up."""

    def close(self, hear: Hear) -> None:
        """Does nothing: no worker is left when the training has ended."""


def through(function: Callable[..., None]) -> Callable[..., None]:
    """The function with its errors made Stopped: they are the driver's, not the training's."""

    def call(*args: Any) -> None:
        try:
            function(*args)
        except BaseException as error:
            raise Stopped(error) from error

    return call
