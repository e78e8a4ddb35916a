"""Workers of a Ray cluster: a task for each attempt, its messages in an actor beside the driver."""

from __future__ import annotations

import pickle
from collections.abc import Callable
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

from mutransfer_cli.proxies.init import Note
from mutransfer_cli.sweep.choice import Settings
from mutransfer_cli.sweep.driver import Driver, Hear, Observer
from mutransfer_cli.sweep.groups import Assignment, End, Failed, Message
from mutransfer_cli.sweep.ladder import Fault
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.ray_cluster import cluster_gpus
from mutransfer_cli.sweep.spawn import Kind
from mutransfer_cli.sweep.store import RecordStore
from mutransfer_cli.sweep.worker import train_group

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
