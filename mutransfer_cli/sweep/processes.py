"""Workers on this machine: a process for each GPU, or for each core of a CPU.

A worker ends when its connection to the driver closes, whatever has happened to the driver.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
import time
import traceback
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import recv_handle, send_handle
from typing import IO, Any

from mutransfer_cli.data.mapped import Handover, handed_over
from mutransfer_cli.sweep.choice import Fault
from mutransfer_cli.sweep.driver import Hear
from mutransfer_cli.sweep.messages import Assignment, End, Failed, Message
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.spawn import CannotStart, Kind, Started, environments, start
from mutransfer_cli.sweep.worker import Stopped, train_group

POLL = 0.2  # seconds
GRACE = 10.0  # seconds for a worker to save its state before it is killed
JOIN = 2.0  # seconds for a process to end after its last message
MOST_EARLY_DEATHS = 3
STOP, READY = "stop", "ready"


@dataclass
class Worker:
    """A worker process and its connection.

    Attributes:
        ready: its first message has come.
        assignment: its attempt in training; None while it waits for one.
    """

    process: BaseProcess
    connection: Connection
    ready: bool = False
    assignment: Assignment | None = None


class Processes:
    """A launcher of worker processes.

    Args:
        crew: the started processes; the launcher takes them out of the list.
    """

    def __init__(self, kind: Kind, crew: list[Started]) -> None:
        self._environments = environments(kind, len(crew))
        self._workers: list[Worker | None] = [Worker(*started) for started in crew]
        crew.clear()
        self._sweep: tuple[Sweep, Handover, IO[bytes]] | None = None
        self._opened = ExitStack()
        self._early_deaths = 0
        self._closing = False
        self.at_once = len(self._workers)

    def begin(self, sweep: Sweep) -> None:
        """Hand the sweep to all workers, without its trials, which come with each group."""
        handover, file = self._opened.enter_context(handed_over(sweep.corpus))
        self._sweep = replace(sweep, trials={}, corpus=handover.corpus), handover, file
        for worker in self._workers:
            if worker is not None:
                self._tell(worker)

    def has_room(self) -> bool:
        return any(worker is None or worker.assignment is None for worker in self._workers)

    def submit(self, assignment: Assignment) -> None:
        place, worker = next(
            (place, worker)
            for place, worker in enumerate(self._workers)
            if worker is None or worker.assignment is None
        )
        if worker is None:
            worker = self._start(place)
        worker.assignment = assignment
        order(worker, assignment)

    def poll(self, hear: Hear) -> None:
        self._read_all(hear, POLL)

    def give_up(self, key: tuple[str, int]) -> None:
        for worker in self._training():
            if worker.assignment and worker.assignment.key == key:
                worker.process.kill()

    def close(self, hear: Hear) -> None:
        self._closing = True
        try:
            for busy in self._training():
                order(busy, STOP)
            until = time.monotonic() + GRACE
            while self._training() and time.monotonic() < until:
                self._read_all(hear, until - time.monotonic())
        finally:
            for place, worker in enumerate(self._workers):
                if worker is not None:
                    worker.process.kill()
                    self._bury(place, worker)
            self._opened.close()

    def _training(self) -> list[Worker]:
        return [worker for worker in self._workers if worker and worker.assignment]

    def _start(self, place: int) -> Worker:
        worker = self._workers[place] = Worker(*start(self._environments[place]))
        if self._sweep is not None:
            self._tell(worker)
        return worker

    def _tell(self, worker: Worker) -> None:
        assert self._sweep is not None, "called once the sweep is known"
        *what, file = self._sweep
        with suppress(OSError):  # the next poll finds a worker that is gone
            worker.connection.send(tuple(what))
            send_handle(worker.connection, file.fileno(), worker.process.pid)

    def _read_all(self, hear: Hear, seconds: float) -> None:
        by_connection = {w.connection: place for place, w in enumerate(self._workers) if w}
        for connection in wait(list(by_connection), timeout=max(0.0, seconds)):
            assert isinstance(connection, Connection)
            self._read(by_connection[connection], hear)

    def _read(self, place: int, hear: Hear) -> None:
        """Pass on the messages of a worker, and report its loss if it should still be there."""
        worker = self._workers[place]
        assert worker is not None, "only workers that exist are polled"
        messages, lost = received(worker.connection)
        for message in messages:
            if message == READY:
                worker.ready = True
                continue
            if isinstance(message.content, End):
                worker.assignment = None
            if isinstance(message.content, Failed):
                self._bury(place, worker)  # it ends itself, as its device may be in any state
                lost = False
            if not (self._closing and isinstance(message.content, End)):
                hear(message)
        if lost:
            exit_code = self._bury(place, worker)
            if self._closing:
                return
            if not worker.ready:
                self._early_deaths += 1
            if self._early_deaths == MOST_EARLY_DEATHS:
                reason = cause_of_death(exit_code)
                raise CannotStart(0, f"{MOST_EARLY_DEATHS} died at once: {reason}")
            if worker.assignment is not None:
                fault: Fault = "rung" if worker.ready else "elsewhere"
                failed = Failed(cause_of_death(exit_code), fault, died=True)
                hear(Message(*worker.assignment.key, failed))

    def _bury(self, place: int, worker: Worker) -> int | None:
        """Free a worker's place; kill the process if it has not ended. Returns its exit code."""
        worker.process.join(JOIN)
        worker.process.kill()
        worker.process.join()
        exit_code = worker.process.exitcode
        worker.connection.close()
        worker.process.close()
        self._workers[place] = None
        return exit_code


def received(connection: Connection) -> tuple[list[Any], bool]:
    """All messages that have arrived, and whether the other end is closed."""
    messages = []
    try:
        while connection.poll():
            messages.append(connection.recv())
    except (EOFError, OSError):
        return messages, True
    return messages, False


def cause_of_death(exit_code: int | None) -> str:
    if exit_code is None:
        return "its connection broke"
    if exit_code >= 0:
        return f"its process ended with exit code {exit_code}"
    name = signal.Signals(-exit_code).name
    memory = ", as the system does when memory runs out" if name == "SIGKILL" else ""
    return f"its process was ended by {name}{memory}"


def order(worker: Worker, what: Assignment | str) -> None:
    with suppress(OSError):  # the next poll finds a worker that is gone
        worker.connection.send(what)


def serve(connection: Connection) -> None:
    """Train what the driver assigns until it sends STOP."""
    connection.send(READY)
    orders = Orders(connection)
    try:
        while (assignment := orders.next()) is not None:
            failed = False

            def post(message: Message) -> None:
                nonlocal failed
                failed = isinstance(message.content, Failed)
                connection.send(message)

            train_group(assignment, orders.sweep, post, orders.check)
            if failed:
                break  # the state that an error left on the device ends with the process
    except (Stopped, OSError):
        return  # the driver wants nothing more, or is gone


class Orders:
    """Orders of the driver, received in a thread of its own, so that even a worker that hangs in a
    kernel ends with its driver."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._assignments: queue.SimpleQueue[Assignment | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def next(self) -> Assignment | None:
        """Wait for the next assignment; None after STOP."""
        return self._assignments.get()

    def check(self) -> None:
        if self._stopped.is_set():
            raise Stopped

    def _listen(self) -> None:
        try:
            while True:
                match self._connection.recv():
                    case Assignment() as assignment:
                        self._assignments.put(assignment)
                    case (Sweep() as sweep, Handover() as handover):
                        corpus = handover.taken(recv_handle(self._connection))
                        self.sweep = replace(sweep, corpus=corpus)
                    case _:
                        self._stopped.set()
                        self._assignments.put(None)
        except (EOFError, OSError):
            pass  # the driver is gone
        except Exception:  # an order that cannot be read
            traceback.print_exc()
        os._exit(1)
