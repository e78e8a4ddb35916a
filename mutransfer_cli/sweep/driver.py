"""The driver of a sweep: gives groups of trials to workers, and records what they send. It does
not train.

A group whose worker fails or is lost goes on in another, one rung of the ladder lower, and so do
the groups of the same width that have not begun.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol as Interface

from mutransfer_cli import errors
from mutransfer_cli.spec.records import ThroughputRecord, TrialRecord
from mutransfer_cli.sweep.choice import Rung, Settings, next_lower
from mutransfer_cli.sweep.prepare import Sweep, Trial, pending
from mutransfer_cli.sweep.spawn import Kind
from mutransfer_cli.sweep.store import Finished, RecordStore
from mutransfer_cli.sweep.training import Stepped, failed_record
from mutransfer_cli.sweep.worker import Assignment, Done, Failed, Group, Message, Refused, cut
from mutransfer_cli.train.loop import Progress

ATTEMPTS = 3  # at a group whose worker dies on the lowest rung
NOTHING = Progress(running=0, alive=0, trials_done=0.0, tokens=0, seconds=0.0)
Hear = Callable[[Message], None]


class Launcher(Interface):
    """Workers, wherever they are."""

    def begin(self, sweep: Sweep) -> None:
        """Lets the workers know the sweep."""

    def has_room(self) -> bool:
        """Whether another assignment would find a worker."""

    def submit(self, assignment: Assignment) -> None:
        """Has a worker make the attempt."""

    def poll(self, hear: Hear) -> None:
        """Waits a moment, and hands over what workers have sent. The last message of an attempt
        is an End, sent by its worker or, if that was lost, by the launcher."""

    def give_up(self, key: tuple[str, int]) -> None:
        """Kills the worker of an attempt, which then counts as lost."""

    def close(self, hear: Hear) -> None:
        """Ends all workers before their work is done: those in training save their state first, if
        they answer soon."""


class Observer(Interface):
    """A display of a sweep in training."""

    def stepped(self, width: int, group: str, progress: Progress) -> None: ...

    def recorded(self, records: Sequence[TrialRecord]) -> None: ...

    def measured(self, throughput: ThroughputRecord) -> None: ...

    def noted(self, sentence: str) -> None: ...


@dataclass
class Task:
    """An attempt that has not ended.

    Attributes:
        heard: when its worker last gave a sign of life; None before it starts.
        queue: what its progress goes by.
        rung: how its steps are run, once that is chosen.
        silent: its worker was given up.
    """

    assignment: Assignment
    heard: float | None = None
    queue: str | None = None
    rung: Rung | None = None
    silent: bool = False

    @property
    def group(self) -> Group:
        return self.assignment.group


class Driver:
    """
    Args:
        workers: that share the sweep; None: as many as there will be.
        timeout: seconds without a word from a worker, after which it is given up.
        emit: gets what is appended to the record file.

    Attributes:
        waiting: groups that no worker has, and which attempt is next.
        tasks: attempts that have not ended.
        settled: trials with a finished record, and those that failed in this run.
        limits: the most that may be tried, by width; elsewhere it is the user's own limit.
    """

    def __init__(
        self,
        sweep: Sweep,
        store: RecordStore,
        launcher: Launcher,
        kind: Kind,
        workers: int | None,
        settings: Settings,
        timeout: float,
        observer: Observer,
        emit: Callable[[bytes], None],
    ) -> None:
        self.sweep, self.store, self.launcher, self.kind = sweep, store, launcher, kind
        self.settings, self.timeout, self.observer, self.emit = settings, timeout, observer, emit
        every = [trial for trials in sweep.trials.values() for trial in trials]
        left = {trial.id for trial in pending(every, store.trials)}
        self.settled = {trial.id for trial in every} - left
        self.tasks: dict[tuple[str, int], Task] = {}
        self.limits: dict[int, Rung] = {}
        groups = cut(sweep, kind, workers)
        own = {group.checkpoint for group in groups}
        found = sorted(path.name for path in store.path.parent.glob("checkpoint-*.pt"))
        self.older = tuple(name for name in found if name not in own)
        flops = {width: sweep.cost(width).flops for width in sweep.trials}
        # the largest first: what is left at the end, when not all workers have work, is small
        groups.sort(key=lambda group: -flops[group.width] * len(self._left(group)))
        self.waiting = deque((group, 1) for group in groups)

    def run(self, check: Callable[[], None]) -> None:
        """Trains every trial that has no finished record.

        Args:
            check: called several times a second; raises to stop the sweep there.
        """
        try:
            if any(self._left(group) for group, _ in self.waiting):
                self.launcher.begin(self.sweep)
            self._submit()
            while self.tasks:
                self.launcher.poll(self.hear)
                self._give_up_silent()
                self._submit()
                check()
        except BaseException:
            self.launcher.close(self.hear)
            raise
        for name in self.older:
            self.store.path.with_name(name).unlink(missing_ok=True)

    def hear(self, message: Message) -> None:
        """Takes up a message. Records of an attempt that was given up count too; its other words
        do not."""
        content = message.content
        if isinstance(content, Finished):
            self._record(content)
        task = self.tasks.get(message.key)
        if task is None:
            return
        task.heard = time.monotonic()
        match content:
            case Stepped(queue, progress):
                task.queue = queue
                self.observer.stepped(task.group.width, queue, progress)
            case ThroughputRecord():
                self.store.append_throughput(content)
                self.emit(content.line())
                self.observer.measured(content)
            case Rung():
                task.rung = content
            case str():
                self.observer.noted(content)
            case Refused(error, sentence):
                raise getattr(errors, error)(sentence)
            case Failed() | Done():
                del self.tasks[message.key]
                self._end(task, content)

    def _submit(self) -> None:
        while self.waiting and self.launcher.has_room():
            group, attempt = self.waiting.popleft()
            left = self._left(group)
            if not left:
                self._remove_checkpoint(group)
                continue
            assignment = Assignment(
                group,
                attempt,
                left,
                self.store.path.parent.absolute(),
                self.older,
                self.kind,
                self.settings,
                self._limit(group.width).under(Rung(True, True, len(group.trials))),
            )
            self.tasks[assignment.key] = Task(assignment)
            self.launcher.submit(assignment)

    def _limit(self, width: int) -> Rung:
        return self.limits.get(width, self.settings.limit)

    def _left(self, group: Group) -> tuple[Trial, ...]:
        return tuple(trial for trial in group.trials if trial.id not in self.settled)

    def _remove_checkpoint(self, group: Group) -> None:
        """Removes what a worker that died after its last record has left."""
        self.store.path.with_name(group.checkpoint).unlink(missing_ok=True)

    def _record(self, found: Finished) -> None:
        new = found.only({record.trial for record in found.records} - self.settled)
        if new.records:
            self.store.append(new)
            self.emit(b"".join(record.line() for record in new.records))
            self.observer.recorded(new.records)
            self.settled |= {record.trial for record in new.records}

    def _end(self, task: Task, end: Failed | Done) -> None:
        left = self._left(task.group)
        if not left:
            self._remove_checkpoint(task.group)
            return
        if task.queue is not None:
            self.observer.stepped(task.group.width, task.queue, NOTHING)
        if isinstance(end, Done):
            end = Failed("some of its records were lost", "elsewhere", died=True)
        elif task.silent:
            end = Failed(f"it was silent for {self.timeout:g} s", "rung", died=True)
        self._retry(task, left, end)

    def _retry(self, task: Task, left: Sequence[Trial], failed: Failed) -> None:
        """Tries again, one rung lower where there is one, or records the trials as failed."""
        group, attempt = task.group, task.assignment.attempt
        limit = task.assignment.limit
        # what died before it had chosen had at most the limit, and no graph on a CPU
        ran = task.rung or replace(limit, captured=limit.captured and self.kind == "cuda")
        lower = next_lower(ran, failed.fault)
        if lower is None and (not failed.died or attempt >= ATTEMPTS):
            lost = f"{attempt} workers were lost, the last because {failed.reason}"
            reason = lost if failed.died else failed.reason
            queue = task.queue or group.id
            records = [failed_record(self.sweep.protocol, t, queue, reason) for t in left]
            self._record(Finished(records))
            return
        if lower is not None:
            self.limits[group.width] = lower.under(self._limit(group.width))
        self.waiting.appendleft((group, attempt + 1))
        self.observer.noted(retry_sentence(group.width, len(left), ran, lower, failed))

    def _give_up_silent(self) -> None:
        now = time.monotonic()
        for key, task in self.tasks.items():
            if task.heard is not None and not task.silent and now - task.heard > self.timeout:
                task.silent = True
                self.launcher.give_up(key)


def retry_sentence(width: int, trials: int, ran: Rung, lower: Rung | None, failed: Failed) -> str:
    """One line that says what failed, and how the trials go on."""
    if failed.fault == "memory" and lower is not None:
        return (
            f"width {width}: out of memory with {ran.slots} trials side by side; going on with "
            f"{lower.slots}"
        )
    what = "was lost" if failed.died else f"failed {ran.steps}"
    how = f"{lower}" if lower is not None else "in another"
    return f"width {width}: a worker with {trials} trials {what}, {failed.reason}; they go on {how}"
