"""A connection to Ray: started on this machine, or an address that answers.

MERGED:
Workers of a Ray cluster: a task for each attempt, its messages in an actor beside the driver."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    OutOfMemoryError,
    RayError,
    TaskCancelledError,
    WorkerCrashedError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.reading import Note
from mutransfer_cli.sweep.choice import Fault, Settings
from mutransfer_cli.sweep.driver import Driver, Hear, Observer
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.spawn import Kind
from mutransfer_cli.sweep.store import RecordStore
from mutransfer_cli.sweep.worker import Assignment, End, Failed, Message, train_group
from mutransfer_cli.train.device import DeviceName, choose_device

CONNECT_SECONDS = 5.0  # for a TCP connection
ANSWER_SECONDS = 15.0  # for Ray to answer on it
CONNECT = "import sys, ray; ray.init(sys.argv[1], log_to_driver=False, logging_level='CRITICAL')"


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """While entered, this process is a driver of a Ray cluster.

    Args:
        address: None starts Ray on this machine, for as long; `auto` or HOST:PORT joins a cluster.

    Raises:
        InputError: nothing answers there as Ray does.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is not None:
        _refuse_without_answer(address)
    # Ray prints what its daemons say to stdout, which belongs to the records; its logs have it too
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        # without an address ray.init would join any cluster that it finds
        ray.init(
            address or "local",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
        )
        try:
            yield
        finally:
            ray.shutdown()


def _refuse_without_answer(address: str) -> None:
    """ray.init waits for minutes where nothing answers, or ends the interpreter: another tries."""
    host_port = re.fullmatch(r"([^/\s]+):(\d{1,5})", address)
    if address != "auto" and host_port is None:
        raise InputError(f"--address {address}: expected auto or HOST:PORT, such as head:6379")
    try:
        if host_port is not None:
            target = (host_port[1].strip("[]"), int(host_port[2]))
            socket.create_connection(target, CONNECT_SECONDS).close()
        subprocess.run(  # noqa: S603
            [sys.executable, "-c", CONNECT, address],
            check=True,
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
        )
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from error
    except subprocess.TimeoutExpired as error:
        raise _no_cluster(address, f"no answer in {ANSWER_SECONDS:.0f} s") from error
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.splitlines() if line.strip()]
        raise _no_cluster(address, lines[-1] if lines else f"exit {error.returncode}") from error


def _no_cluster(address: str, reason: str) -> InputError:
    return InputError(
        f"--address {address}: no Ray cluster answers there ({reason}); start one with `ray start "
        "--head`, run this command on one of its machines, or leave --address out"
    )


def choose_kind(name: DeviceName, precision: str, joined: bool) -> Kind:
    """What the workers train on; the driver needs none of it.

    Raises:
        InputError: CUDA asked for on a machine without, or tf32 without CUDA.
    """
    gpus = cluster_gpus()
    if name == "cuda" and not gpus and not joined:
        raise InputError("--device cuda: Ray finds no GPU on this machine; use --device cpu")
    if name == "cpu" or (name == "auto" and not gpus):
        choose_device("cpu", precision)
        return "cpu"
    return "cuda"


def cluster_gpus() -> float:
    """Of all nodes that are there now, in use or not."""
    return float(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]


POLL = 0.2  # seconds
LOST: dict[type[Exception], tuple[str, Fault]] = {
    WorkerCrashedError: ("its process died", "rung"),
    OutOfMemoryError: ("the memory of its node ran out", "rung"),
    NodeDiedError: ("its node is gone", "elsewhere"),
    LocalRayletDiedError: ("its node is gone", "elsewhere"),
    TaskCancelledError: ("it was cancelled", "elsewhere"),
}


class Inbox:
    """An actor that keeps messages for the driver, as bytes: it imports nothing to read them."""

    def __init__(self) -> None:
        self._messages: list[bytes] = []

    def put(self, message: bytes) -> None:
        self._messages.append(message)

    def take(self) -> list[bytes]:
        taken, self._messages = self._messages, []
        return taken


def train_and_post(assignment: Assignment, sweep: Sweep, inbox: Any) -> int:
    """The body of a task; returns how many messages it has sent.

    It does not wait for them: Ray gives the CPU of a task that waits to a new process.

    Args:
        sweep: without its trials; its text lies in memory that the workers of a node share.
    """
    count = 0

    def post(message: Message) -> None:
        nonlocal count
        inbox.put.remote(pickle.dumps(message))
        count += 1

    train_group(assignment, sweep, post)
    return count


def run(
    sweep: Sweep,
    store: RecordStore,
    kind: Kind,
    gpus: float,
    settings: Settings,
    timeout: float,
    observer: Observer,
    emit: Callable[[bytes], None],
    check: Callable[[], None],
) -> None:
    """Trains every trial that has no finished record, on the cluster that is connected.

    Args:
        gpus: of which each task takes so many, at most 1; on CUDA.
        timeout: seconds without a word from a worker, after which it is given up.
        emit: gets what is appended to the record file.
        check: called several times a second; raises to stop the sweep there.
    """
    launcher = Ray(kind, gpus, observer.noted)
    Driver(sweep, store, launcher, kind, None, settings, timeout, observer, emit).run(check)


@dataclass
class Sent:
    """A task that has not ended, and how many of its messages have come."""

    assignment: Assignment
    received: int = 0
    given_up: bool = False
    over: bool = False


class Ray:
    """A launcher on the cluster that is connected.

    Args:
        gpus: of which each task takes so many, at most 1; on CUDA.
    """

    def __init__(self, kind: Kind, gpus: float, note: Note) -> None:
        self._task = ray.remote(**resources(kind, gpus))(train_and_post)
        self._sent: dict[Any, Sent] = {}
        here = ray.get_runtime_context().get_node_id()
        inbox = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Inbox)
        on_this_node = NodeAffinitySchedulingStrategy(here, soft=False)
        self._inbox: Any = inbox.options(scheduling_strategy=on_this_node).remote()
        if kind == "cuda" and not cluster_gpus():
            note("the cluster has no GPU yet; the trials wait for one")

    def begin(self, sweep: Sweep) -> None:
        self._shared = ray.put(shareable(sweep))

    def has_room(self) -> bool:
        """Always: Ray keeps what waits, and has a cluster grow to it."""
        return True

    def submit(self, assignment: Assignment) -> None:
        self._sent[self._task.remote(assignment, self._shared, self._inbox)] = Sent(assignment)

    def poll(self, hear: Hear) -> None:
        ended, _ = ray.wait(list(self._sent), timeout=POLL)
        by_key = {sent.assignment.key: sent for sent in self._sent.values()}
        for content in ray.get(self._inbox.take.remote()):
            message: Message = pickle.loads(content)  # noqa: S301 - our own task has sent it
            sent = by_key.get(message.key)
            if sent is not None:
                sent.received += 1
                sent.over |= isinstance(message.content, End)
            hear(message)
        for ref in ended:
            self._end(ref, hear)

    def give_up(self, key: tuple[str, int]) -> None:
        for ref, sent in self._sent.items():
            if sent.assignment.key == key:
                sent.given_up = True
                ray.cancel(ref, force=True)

    def close(self, hear: Hear) -> None:
        for ref in self._sent:
            ray.cancel(ref, force=True)

    def _end(self, ref: Any, hear: Hear) -> None:
        """Forgets an ended task once all that it has sent is here."""
        sent = self._sent[ref]
        reason: str = "some of its records were lost"
        fault: Fault = "elsewhere"
        try:
            if ray.get(ref) > sent.received and not sent.given_up:
                return
        except RayError as error:
            if type(error) not in LOST:
                raise
            reason, fault = LOST[type(error)]
        del self._sent[ref]
        if not sent.over:
            hear(Message(*sent.assignment.key, Failed(reason, fault, died=True)))


def resources(kind: Kind, gpus: float) -> dict[str, Any]:
    """Resources that a task takes. Ray retries nothing: the driver knows which trials are left."""
    if kind == "cpu":
        return {"num_cpus": 1, "max_retries": 0}
    # a process that has used one GPU cannot be moved to another: each task has its own
    return {"num_cpus": 0, "num_gpus": gpus, "max_calls": 1, "max_retries": 0}


def shareable(sweep: Sweep) -> Sweep:
    """The sweep with its text in arrays that Ray puts into shared memory, which it does not do with
    mapped files; without trials, which come with each group."""
    corpus = sweep.corpus
    plain = replace(corpus, train=np.asarray(corpus.train), eval=np.asarray(corpus.eval))
    return replace(sweep, corpus=plain, trials={})
