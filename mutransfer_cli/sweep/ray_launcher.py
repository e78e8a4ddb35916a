"""Workers of a Ray cluster: a task for each attempt; its messages wait in an actor at the driver.

Ray is started on this machine, or a cluster is joined after its address has answered.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
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
from mutransfer_cli.proxies.batch import mapped
from mutransfer_cli.proxies.reading import Note
from mutransfer_cli.sweep.choice import Fault, Settings
from mutransfer_cli.sweep.driver import Driver, Hear, Observer
from mutransfer_cli.sweep.messages import Assignment, End, Failed, Message
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.spawn import Kind
from mutransfer_cli.sweep.store import RecordStore
from mutransfer_cli.sweep.worker import train_group
from mutransfer_cli.train.device import DeviceName, choose_device
from mutransfer_cli.train.loop import Check

CONNECT_SECONDS = 5.0  # for a TCP connection
ANSWER_SECONDS = 15.0  # for Ray to answer on it
CONNECT = "import sys, ray; ray.init(sys.argv[1], log_to_driver=False, logging_level='CRITICAL')"
POLL = 0.2  # seconds
LOST: dict[type[Exception], tuple[str, Fault]] = {
    WorkerCrashedError: ("its process died", "rung"),
    OutOfMemoryError: ("the memory of its node ran out", "rung"),
    NodeDiedError: ("its node is gone", "elsewhere"),
    LocalRayletDiedError: ("its node is gone", "elsewhere"),
    TaskCancelledError: ("it was cancelled", "elsewhere"),
}


@contextlib.contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Inside, this process is a driver of a Ray cluster.

    Args:
        address: `auto` or HOST:PORT joins a cluster; None starts Ray on this machine until exit.

    Raises:
        InputError: no Ray cluster answers at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is not None:
        refuse_without_answer(address)
    # stdout belongs to the records; what Ray's daemons print there is in Ray's logs too
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


def refuse_without_answer(address: str) -> None:
    """Try the address in another process: without an answer ray.init waits for minutes or ends the
    interpreter.

    Raises:
        InputError: no Ray cluster answers there.
    """
    host_port = re.fullmatch(r"([^/\s]+):(\d{1,5})", address)
    if address != "auto" and host_port is None:
        raise InputError(
            f"address {address}: expected auto or HOST:PORT, such as head:6379", setting="address"
        )
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
        f"address {address}: no Ray cluster answers there ({reason}); start one with `ray start "
        "--head`, run this command on one of its machines, or give no address",
        setting="address",
    )


def choose_kind(name: DeviceName, precision: str, joined: bool) -> Kind:
    """Choose the kind of device that workers train on; the driver needs none.

    Args:
        joined: the cluster was not started here, so that GPUs may still come.

    Raises:
        InputError: CUDA is asked for on a machine without GPU, or tf32 without CUDA.
    """
    gpus = cluster_gpus()
    if name == "cuda" and not gpus and not joined:
        raise InputError(
            "device cuda: Ray finds no GPU on this machine; use the CPU", setting="device"
        )
    if name == "cpu" or (name == "auto" and not gpus):
        choose_device("cpu", precision)
        return "cpu"
    return "cuda"


def cluster_gpus() -> float:
    """Number of GPUs on all present nodes, in use or not."""
    return float(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]


class Inbox:
    """An actor that keeps messages for the driver as bytes, so that it imports nothing."""

    def __init__(self) -> None:
        self._messages: list[bytes] = []

    def put(self, message: bytes) -> None:
        self._messages.append(message)

    def take(self) -> list[bytes]:
        taken, self._messages = self._messages, []
        return taken


def train_and_post(assignment: Assignment, sweep: Sweep, inbox: Any) -> int:
    """The body of a task; returns the number of messages that it has sent.

    It does not wait for them: Ray would give the CPU of a waiting task to a new process.

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
    observer: Observer,
    check: Check,
) -> None:
    """Train every trial that has no finished record on the connected cluster.

    Args:
        gpus: number of GPUs that each task takes on CUDA, at most 1.
    """
    launcher = Ray(kind, gpus, observer.noted)
    Driver(sweep, store, launcher, kind, None, settings, observer).run(check)


@dataclass
class Sent:
    """A task that has not ended.

    Attributes:
        received: number of its messages that have come.
        over: whether its last message has.
    """

    assignment: Assignment
    received: int = 0
    given_up: bool = False
    over: bool = False


class Ray:
    """A launcher on the connected cluster."""

    at_once = None  # a cluster may grow

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
        """Always true: Ray keeps waiting tasks, and makes a cluster grow for them."""
        return True

    def submit(self, assignment: Assignment) -> None:
        self._sent[self._task.remote(assignment, self._shared, self._inbox)] = Sent(assignment)

    def poll(self, hear: Hear) -> None:
        ended, _ = ray.wait(list(self._sent), timeout=POLL)
        by_key = {sent.assignment.key: sent for sent in self._sent.values()}
        for content in ray.get(self._inbox.take.remote()):
            message: Message = pickle.loads(content)  # noqa: S301 - sent by our own task
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
        """Forget an ended task once all its messages are here."""
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
    """Resources of a task. Ray retries nothing, because the driver knows which trials are left."""
    if kind == "cpu":
        return {"num_cpus": 1, "max_retries": 0}
    # a process that has used one GPU cannot be moved to another, so each task has its own process
    return {"num_cpus": 0, "num_gpus": gpus, "max_calls": 1, "max_retries": 0}


def shareable(sweep: Sweep) -> Sweep:
    """The sweep without its trials, its text as arrays: Ray does not share mapped files."""
    corpus = sweep.corpus
    train, held_out = mapped(
        lambda data: np.asarray(data) if isinstance(data, np.ndarray) else data,
        (corpus.train, corpus.eval),
    )
    return replace(sweep, corpus=replace(corpus, train=train, eval=held_out), trials={})
