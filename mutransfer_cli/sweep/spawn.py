"""Starts worker processes, before this process has imported torch: workers import it meanwhile.

A process is started with `spawn`, because CUDA does not survive a fork.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import Literal

from mutransfer_cli.errors import InputError
from mutransfer_cli.quiet import quiet_libraries
from mutransfer_cli.train.cgroups import usable_cores

Kind = Literal["cpu", "cuda"]
Started = tuple[BaseProcess, Connection]

SPAWN = multiprocessing.get_context("spawn")
SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
# device files of NVIDIA's driver, of AMD's, and of a Windows host's
GPU_FILES = tuple(map(Path, ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")))


class CannotStart(OSError):
    """This machine starts no worker processes, or they die before they are ready."""

    @property
    def sentence(self) -> str:
        return f"worker processes cannot be started ({self.strerror}); training in this process"


def worker_count(asked: int | None, device_type: str, trials: int) -> int:
    """Number of workers: as asked, otherwise one per GPU or usable core; at most one per trial.

    Raises:
        InputError: more workers than GPUs.
    """
    if device_type == "cpu":
        return min(asked or usable_cores(), trials)
    import torch  # only where there is a GPU

    gpus = torch.cuda.device_count()
    if asked is not None and asked > gpus:
        raise InputError(
            f"workers {asked}: torch sees {gpus} CUDA device{'s' if gpus > 1 else ''}, and each "
            f"worker needs one of its own; give at most {gpus}, or leave it out",
            setting="workers",
        )
    return min(asked or gpus, trials)


def surely_cpu(device_name: str) -> bool:
    """Whether a run will certainly train on a CPU; answered without torch."""
    return device_name == "cpu" or not any(path.exists() for path in GPU_FILES)


def environments(kind: Kind, count: int) -> list[dict[str, str]]:
    """Variables to add for each worker: one thread on a CPU, or one of the visible GPUs."""
    if kind == "cpu":
        return [{"OMP_NUM_THREADS": "1"}] * count
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else list(map(str, range(count)))
    return [{"CUDA_VISIBLE_DEVICES": name} for name in names[:count]]


@contextmanager
def started(kind: Kind, count: int, note: Callable[[str], None]) -> Iterator[list[Started]]:
    """Worker processes; those still in the list on exit are killed.

    The list is empty if the system starts none, which is noted.
    """
    crew: list[Started] = []
    try:
        for added in environments(kind, count):
            crew.append(start(added))
    except CannotStart as error:
        note(error.sentence)
        kill(crew)
    try:
        yield crew
    finally:
        kill(crew)


def start(added: Mapping[str, str]) -> Started:
    """Start a process with variables added to its environment.

    Raises:
        CannotStart: the system refuses, and says why.
    """
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=work, args=(theirs,), name="mutransfer-worker")
    try:
        with surroundings(added):
            process.start()
    except OSError as error:
        ours.close()
        raise CannotStart(error.errno, error.strerror or str(error)) from error
    finally:
        theirs.close()
    return process, ours


def kill(crew: list[Started]) -> None:
    while crew:
        process, connection = crew.pop()
        process.kill()
        process.join()
        connection.close()


@contextmanager
def surroundings(added: Mapping[str, str]) -> Iterator[None]:
    """Processes started inside have these variables, and block the signals that end the driver.

    The driver itself receives such signals on exit. The processes do not run the driver's main
    module again, as `spawn` would have them do: it may be a notebook, or a script without
    `if __name__ == "__main__"`, which would sweep once more.
    """
    before, mask = dict(os.environ), signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    # a worker killed while it compiles leaves semaphores, which Python's own tracker frees
    warned = (before.get("PYTHONWARNINGS"), "ignore:resource_tracker")
    os.environ.update(added, PYTHONWARNINGS=",".join(filter(None, warned)))
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        os.environ.clear()
        os.environ.update(before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def work(connection: Connection) -> None:
    """The body of a worker process."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # only the driver says when to stop
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    os.dup2(2, 1)  # stdout is for the driver's records, whatever a model prints
    quiet_libraries()

    from mutransfer_cli.sweep.processes import serve

    serve(connection)
