"""Runs each contender in its own processes.

Each contender has its own compiled code and memory, so that none disturbs another: peaks are
measured separately, and no contender evicts another's compiled code. A contender waits while
another is timed.
"""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import torch
from torch._C._autograd import DeviceType

from benchmarks.cases import Case
from benchmarks.contenders import Name, build
from mutransfer_cli.train.device import matrix_peak

SPAWN = multiprocessing.get_context("spawn")  # a CUDA context does not survive a fork
PROFILED_STEPS = 5
TOP_KERNELS = 8


class OutOfMemoryError(Exception):
    """Raised if a contender does not fit on the device."""


class Pool:
    """One contender in one or more processes, each of which trains other trials of a case.

    Attributes:
        side_by_side: number of trials that one step of all processes advances.
        build_seconds: build time of the slowest process, including compilation and capture.
    """

    def __init__(self, name: Name, case: Case, trains_as: Name, processes: int = 1) -> None:
        self.name, self.case = name, case
        self.workers = [start(trains_as, case, processes) for _ in range(processes)]
        self.side_by_side, self.build_seconds = 0, 0.0

    def wait(self) -> Pool:
        """Wait until every process has built its contender."""
        built = [receive(connection) for _, connection in self.workers]
        self.side_by_side = sum(side_by_side for side_by_side, _ in built)
        self.build_seconds = max(seconds for _, seconds in built)
        return self

    def ask(self, command: str, *args: object) -> Any:
        """Send a request to all processes and return the first one's answer."""
        _, connection = self.workers[0]
        connection.send((command, *args))
        return receive(connection)

    def losses(self, steps: int) -> torch.Tensor:
        """Return the losses of the first steps of every trial, [trials, steps]."""
        count = len(self.workers)
        for part, (_, connection) in enumerate(self.workers):
            connection.send(("losses", part, count, steps))
        parts = [torch.tensor(receive(connection)) for _, connection in self.workers]
        losses = torch.empty(self.case.trials, steps)
        for part, found in enumerate(parts):
            losses[part::count] = found
        return losses

    def seconds(self, steps: int) -> float:
        """Wall time of a trial-step, over `steps` steps of all processes at once."""
        for _, connection in self.workers:
            connection.send(("run", steps))
        # the monotonic clock is the machine's, so readings of different processes can be compared
        spans = [receive(connection) for _, connection in self.workers]
        wall = max(end for _, end in spans) - min(begin for begin, _ in spans)
        return float(wall / steps / self.side_by_side)

    def close(self) -> None:
        for _, connection in self.workers:
            connection.close()
        for process, _ in self.workers:
            process.join()
            process.close()


@contextmanager
def pool(name: Name, case: Case, trains_as: Name, processes: int = 1) -> Iterator[Pool]:
    """Start worker processes that end with the `with` block."""
    made = Pool(name, case, trains_as, processes)
    try:
        yield made
    finally:
        made.close()


def start(name: Name, case: Case, processes: int) -> tuple[Any, Connection]:
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=serve, args=(theirs, name, case, processes))
    process.start()
    theirs.close()
    return process, ours


def receive(connection: Connection) -> Any:
    """Receive an answer of a process.

    Raises:
        OutOfMemoryError: The process ran out of memory.
        RuntimeError: Anything else went wrong in the process.
    """
    try:
        kind, answer = connection.recv()
    except (EOFError, ConnectionResetError) as error:
        raise RuntimeError("a process of the benchmark died") from error
    if kind == "out of memory":
        raise OutOfMemoryError(answer)
    if kind == "error":
        raise RuntimeError(f"in a process of the benchmark:\n{answer}")
    return answer


def serve(connection: Connection, name: Name, case: Case, processes: int) -> None:
    """Body of a process: build the contender, then answer requests until the pipe closes."""
    if case.device_name == "cpu" and processes > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    try:
        started = time.perf_counter()
        worker = Worker(name, case)
        connection.send(("ok", (worker.side_by_side, time.perf_counter() - started)))
        while True:
            command, *args = connection.recv()
            connection.send(("ok", getattr(worker, command)(*args)))
    except (EOFError, BrokenPipeError):
        pass
    except torch.OutOfMemoryError as error:
        connection.send(("out of memory", str(error).splitlines()[0]))
    except Exception:
        connection.send(("error", traceback.format_exc()))


class Worker:
    """The requests that a worker process answers."""

    def __init__(self, name: Name, case: Case) -> None:
        self.case, self.device = case, case.device()
        self.jobs = case.jobs(case.sweep())
        self.contender = build(name, case)
        self.contender.losses(self.jobs[:1], 1)
        self.side_by_side = self.contender.side_by_side

    def losses(self, part: int, parts: int, steps: int) -> list[list[float]]:
        found: list[list[float]] = self.contender.losses(self.jobs[part::parts], steps).tolist()
        return found

    def run(self, steps: int) -> tuple[float, float]:
        """Run `steps` steps and return the clock at their begin and end."""
        begin = time.perf_counter()
        self.contender.run(steps)
        self._wait()
        return begin, time.perf_counter()

    def matrix_peak(self) -> float:
        return matrix_peak(self.device, self.case.precision)

    def peak_memory(self) -> int | None:
        """Peak bytes on the device; None on a CPU."""
        return torch.cuda.max_memory_allocated() if self.device.type == "cuda" else None

    def free_memory(self) -> int:
        free, _ = torch.cuda.mem_get_info()
        return int(free)

    def profile(self) -> list[tuple[str, float, float]]:
        """The kernels that take most of a step: name, milliseconds per step, share."""
        on_cuda = self.device.type == "cuda"
        with torch.profiler.profile() as profiler:
            self.contender.run(PROFILED_STEPS)
            self._wait()
        # host operators repeat the device time of their kernels
        kind = DeviceType.CUDA if on_cuda else DeviceType.CPU
        times = {
            event.key: event.self_device_time_total if on_cuda else event.self_cpu_time_total
            for event in profiler.key_averages()
            if event.device_type == kind
        }
        total = sum(times.values())
        top = sorted(times, key=lambda key: -times[key])[:TOP_KERNELS]
        return [(key, times[key] / 1000 / PROFILED_STEPS, times[key] / total) for key in top]

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
