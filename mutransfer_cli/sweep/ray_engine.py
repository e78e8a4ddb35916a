"""Runs a sweep on a Ray cluster: a task for each group of trials, records written by the driver."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    TaskCancelledError,
    WorkerCrashedError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mutransfer_cli.files.records import ThroughputRecord
from mutransfer_cli.files.yaml_io import content_hash
from mutransfer_cli.sweep.choice import Settings
from mutransfer_cli.sweep.local import Observer, StoreSink
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.ray_cluster import Kind, cluster_gpus
from mutransfer_cli.sweep.ray_inbox import Inbox
from mutransfer_cli.sweep.ray_worker import (
    Assignment,
    Group,
    Message,
    Stepped,
    train_group,
)
from mutransfer_cli.sweep.store import Finished, RecordStore
from mutransfer_cli.sweep.training import failed_record
from mutransfer_cli.sweep.trials import Trial, pending
from mutransfer_cli.train.group_size import slot_count, useful_slots
from mutransfer_cli.train.loop import Progress

ATTEMPTS = 3  # at a group whose worker is lost
POLL = 0.2  # seconds
LOST: dict[type[Exception], str] = {
    WorkerCrashedError: "its process died",
    OutOfMemoryError: "the memory of its node ran out",
    NodeDiedError: "its node is gone",
    LocalRayletDiedError: "its node is gone",
    TaskCancelledError: "it was cancelled",
}
NOTHING = Progress(running=0, alive=0, trials_done=0.0, tokens=0, seconds=0.0)


@dataclass(frozen=True)
class Workers:
    """What the tasks need.

    Attributes:
        gpus: of which each takes so many, at most 1; on CUDA.
        timeout: seconds without a word from a worker, after which it is given up.
    """

    kind: Kind
    gpus: float
    timeout: float

    def task(self) -> Any:
        # the driver counts attempts: it knows which trials of a group are left
        if self.kind == "cpu":
            return ray.remote(num_cpus=1, max_retries=0)(train_group)
        # a process that has used one GPU cannot be moved to another: each task has its own
        one_call = ray.remote(num_cpus=0, num_gpus=self.gpus, max_calls=1, max_retries=0)
        return one_call(train_group)


def run(
    sweep: Sweep,
    store: RecordStore,
    workers: Workers,
    settings: Settings,
    observer: Observer,
    emit: Callable[[bytes], None],
    check: Callable[[], None],
) -> None:
    """Trains every trial that has no finished record, on the cluster that is connected.

    Args:
        emit: gets what is appended to the record file.
        check: called several times a second; raises to stop the sweep there.
    """
    driver = Driver(sweep, store, workers, settings, StoreSink(store, observer, emit))
    try:
        driver.submit_all()
        while driver.tasks:
            driver.poll()
            check()
    finally:
        driver.cancel_all()


def cut(sweep: Sweep, kind: Kind) -> list[Group]:
    """Trials that train side by side, of those recorded too: a rerun has the same groups, and finds
    their checkpoints."""
    groups = []
    for width, trials in sweep.trials.items():
        size = slot_count(len(trials), useful_slots(sweep.protocol, width, kind))
        for first in range(0, len(trials), size):
            part = tuple(trials[first : first + size])
            name = content_hash([trial.id for trial in part], length=12)
            groups.append(Group(name, width, part))
    return groups


def shareable(sweep: Sweep) -> Sweep:
    """Its text in arrays that Ray puts into shared memory, which it does not do with mapped files;
    without trials, which come with each group."""
    corpus = sweep.corpus
    plain = replace(corpus, train=np.asarray(corpus.train), eval=np.asarray(corpus.eval))
    return replace(sweep, corpus=plain, trials={})


@dataclass
class Task:
    """An attempt at a group.

    Attributes:
        heard: when it last gave a sign of life; None before it starts.
        queue: what its progress goes by.
        silent: it was given up.
        received: messages, of which it says at its end how many there are.
    """

    group: Group
    attempt: int
    heard: float | None = None
    queue: str | None = None
    silent: bool = False
    received: int = 0


class Driver:
    """
    Attributes:
        tasks: those submitted that have not ended, as far as is known.
        settled: trials with a finished record, and those that failed in this run.
    """

    def __init__(
        self,
        sweep: Sweep,
        store: RecordStore,
        workers: Workers,
        settings: Settings,
        sink: StoreSink,
    ) -> None:
        self.sweep, self.store, self.sink = sweep, store, sink
        self.workers, self.settings = workers, settings
        self.tasks: dict[Any, Task] = {}
        every = [trial for trials in sweep.trials.values() for trial in trials]
        left = {trial.id for trial in pending(every, store.trials)}
        self.settled = {trial.id for trial in every} - left
        self.task, self.shared = workers.task(), ray.put(shareable(sweep))
        here = ray.get_runtime_context().get_node_id()
        inbox = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Inbox)
        on_this_node = NodeAffinitySchedulingStrategy(here, soft=False)
        self.inbox: Any = inbox.options(scheduling_strategy=on_this_node).remote()

    def submit_all(self) -> None:
        """The largest first: what is left at the end, when not all workers have work, is small."""
        if self.workers.kind == "cuda" and not cluster_gpus():
            self.sink.noted("the cluster has no GPU yet; the trials wait for one")
        flops = {width: self.sweep.cost(width).flops for width in self.sweep.trials}
        groups = cut(self.sweep, self.workers.kind)
        for group in sorted(groups, key=lambda g: -flops[g.width] * len(self._left(g))):
            self._submit(group, 1)

    def poll(self) -> None:
        """Waits a moment, and handles what came in."""
        ended, _ = ray.wait(list(self.tasks), timeout=POLL)
        for message in ray.get(self.inbox.take.remote()):
            self._hear(Message.of(message))
        for ref in ended:
            if self._end(ref, self.tasks[ref]):
                del self.tasks[ref]
        self._give_up_silent()

    def cancel_all(self) -> None:
        for ref in self.tasks:
            ray.cancel(ref, force=True)

    def _left(self, group: Group) -> tuple[Trial, ...]:
        return tuple(trial for trial in group.trials if trial.id not in self.settled)

    def _submit(self, group: Group, attempt: int) -> None:
        left = self._left(group)
        if not left:
            self._remove_checkpoint(group)
            return
        folder = self.store.path.parent.absolute()
        assignment = Assignment(group, attempt, left, folder, self.workers.kind, self.settings)
        self.tasks[self.task.remote(assignment, self.shared, self.inbox)] = Task(group, attempt)

    def _remove_checkpoint(self, group: Group) -> None:
        """What a worker that died after its last record has left."""
        self.store.path.with_name(group.checkpoint).unlink(missing_ok=True)

    def _hear(self, message: Message) -> None:
        """Records of an attempt that was given up count too; its other words do not."""
        content = message.content
        if isinstance(content, Finished):
            self._record(content)
        attempts = self.tasks.values()
        told = (message.group, message.attempt)
        task = next((t for t in attempts if (t.group.id, t.attempt) == told), None)
        if task is None:
            return
        task.heard = time.monotonic()
        task.received += 1
        if isinstance(content, Stepped):
            task.queue = content.queue
            self.sink.stepped(task.group.width, content.queue, content.progress)
        elif isinstance(content, ThroughputRecord):
            self.sink.measured(content)
        elif isinstance(content, str):
            self.sink.noted(content)

    def _record(self, found: Finished) -> None:
        new = {record.trial for record in found.records} - self.settled
        if new:
            self.sink.finished(found.only(new))
            self.settled |= new

    def _end(self, ref: Any, task: Task) -> bool:
        """Whether all that an ended task has sent is here."""
        reason = "some of its records were lost"
        try:
            if ray.get(ref) > task.received and not task.silent:
                return False
        except RayTaskError as error:
            raise error.cause from error
        except RayError as error:
            if type(error) not in LOST:
                raise
            reason = LOST[type(error)]
        left = self._left(task.group)
        if left:
            self._lose(task, left, self._silence if task.silent else reason)
        else:
            self._remove_checkpoint(task.group)
        return True

    def _lose(self, task: Task, left: Sequence[Trial], reason: str) -> None:
        """Tries again, or records the trials that are left as failed."""
        group = task.group
        if task.queue is not None:
            self.sink.stepped(group.width, task.queue, NOTHING)
        if task.attempt < ATTEMPTS:
            self.sink.noted(
                f"width {group.width}: a worker with {len(left)} trials was lost, {reason}; they "
                f"go on in another, attempt {task.attempt + 1} of {ATTEMPTS}"
            )
            self._submit(group, task.attempt + 1)
            return
        why = f"{ATTEMPTS} workers were lost, the last because {reason}"
        protocol, queue = self.sweep.protocol, task.queue or group.id
        records = [failed_record(protocol, trial, queue, why) for trial in left]
        self._record(Finished(records))

    @property
    def _silence(self) -> str:
        return f"it was silent for {self.workers.timeout:g} s"

    def _give_up_silent(self) -> None:
        now = time.monotonic()
        for ref, task in self.tasks.items():
            if task.heard is None or task.silent:
                continue
            if now - task.heard > self.workers.timeout:
                task.silent = True
                ray.cancel(ref, force=True)
