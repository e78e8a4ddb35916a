"""The driver of a sweep: gives groups of trials to workers and records what they send.

The driver does not train. A group whose worker fails or is lost goes on in another, one rung of the
ladder lower, and so do the groups of the same width that have not begun.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol as Interface

from mutransfer_cli.spec.records import ThroughputRecord, TrialRecord
from mutransfer_cli.sweep.choice import Rung, Settings, next_lower
from mutransfer_cli.sweep.messages import Assignment, Done, Failed, Group, Message, Refused
from mutransfer_cli.sweep.prepare import Sweep, Trial, name_of, pending
from mutransfer_cli.sweep.spawn import Kind
from mutransfer_cli.sweep.store import Finished, RecordStore
from mutransfer_cli.sweep.time_left import Planned
from mutransfer_cli.sweep.worker import failed_record
from mutransfer_cli.train.checkpoint import begun_steps
from mutransfer_cli.train.group_size import slot_count, useful_slots
from mutransfer_cli.train.loop import Check, Progress

ATTEMPTS = 3  # at a group whose worker dies on the lowest rung
Hear = Callable[[Message], None]


class Launcher(Interface):
    """Workers, wherever they are.

    Attributes:
        at_once: number of attempts made at the same time; None: unknown.
    """

    @property
    def at_once(self) -> int | None: ...

    def begin(self, sweep: Sweep) -> None:
        """Hand the sweep to the workers."""

    def has_room(self) -> bool:
        """Whether another assignment would find a worker."""

    def submit(self, assignment: Assignment) -> None:
        """Have a worker make the attempt."""

    def poll(self, hear: Hear) -> None:
        """Wait a moment, and pass on the messages of workers.

        The last message of an attempt is an End, from its worker or, if that was lost, from the
        launcher.
        """

    def give_up(self, key: tuple[str, int]) -> None:
        """Kill the worker of an attempt, which then counts as lost."""

    def close(self, hear: Hear) -> None:
        """End all workers before their work is done; those in training may save their state."""


class Observer(Interface):
    """Receives the output of a sweep in training; `recorded` and `measured` once it is on disk.

    Groups are `planned` in the order in which they will be trained, before others that wait. One is
    over when all its trials are recorded, or when it is `dropped`; what is left is planned again.
    """

    def planned(self, groups: Sequence[Planned], at_once: int | None) -> None: ...

    def dropped(self, width: int, group: str) -> None: ...

    def stepped(self, width: int, group: str, progress: Progress) -> None: ...

    def recorded(self, records: Sequence[TrialRecord]) -> None: ...

    def measured(self, throughput: ThroughputRecord) -> None: ...

    def noted(self, sentence: str) -> None: ...


def cut(sweep: Sweep, kind: Kind, workers: int | None) -> list[Group]:
    """Cut the trials of every width into groups.

    Finished trials are included, so that a rerun has the same groups and finds their checkpoints.

    Args:
        workers: number of workers that share the sweep. The trials of a width stay together, which
            is fastest, but with several workers no group holds more than half of one worker's
            share. None: unknown; then a group has as many trials as keep one worker busy.
    """
    costs = {width: sweep.cost(width).flops * len(found) for width, found in sweep.trials.items()}
    groups = []
    for width, trials in sweep.trials.items():
        if workers is None:
            size = slot_count(len(trials), useful_slots(sweep.protocol, width, kind))
        else:
            shares = 2 * workers * costs[width] / sum(costs.values())
            size = math.ceil(len(trials) / (math.ceil(shares) if workers > 1 else 1))
        groups += [
            Group(width, tuple(trials[first : first + size]))
            for first in range(0, len(trials), size)
        ]
    return groups


@dataclass
class Task:
    """An attempt that has not ended.

    Attributes:
        heard: time of its worker's last message; None before it starts.
        rung: how its steps are run, once that is chosen.
        silent: its worker was given up.
    """

    assignment: Assignment
    heard: float | None = None
    rung: Rung | None = None
    silent: bool = False

    @property
    def group(self) -> Group:
        return self.assignment.group


class Driver:
    """Trains a sweep with the workers of a launcher.

    Args:
        workers: number of workers that share the sweep; None: unknown.

    Attributes:
        waiting: groups that no worker has, each with the number of its next attempt.
        tasks: attempts that have not ended, by key.
        settled: trials that have a finished record or failed in this run.
        limits: the highest rung that may be tried, by width; otherwise the user's own limit.
    """

    def __init__(
        self,
        sweep: Sweep,
        store: RecordStore,
        launcher: Launcher,
        kind: Kind,
        workers: int | None,
        settings: Settings,
        observer: Observer,
    ) -> None:
        self.sweep, self.store, self.launcher, self.kind = sweep, store, launcher, kind
        self.settings, self.observer = settings, observer
        every = [trial for trials in sweep.trials.values() for trial in trials]
        left = {trial.id for trial in pending(every, store.trials)}
        self.settled = {trial.id for trial in every} - left
        self.tasks: dict[tuple[str, int], Task] = {}
        self.limits: dict[int, Rung] = {}
        groups = cut(sweep, kind, workers)
        own = {group.checkpoint for group in groups}
        found = sorted(path.name for path in store.path.parent.glob("checkpoint-*.pt"))
        self.older = tuple(name for name in found if name not in own)
        # what a killed run left of a write
        self.torn = tuple(path.name for path in store.path.parent.glob(".checkpoint-*.pt.tmp"))
        flops = {width: sweep.cost(width).flops for width in sweep.trials}
        # the largest first: at the end, when some workers have nothing left, little is in training
        groups.sort(key=lambda group: -flops[group.width] * len(self._left(group)))
        self.waiting = deque((group, 1) for group in groups)

    def run(self, check: Check) -> None:
        """Train every trial that has no finished record; calls `check` several times a second."""
        try:
            groups = [group for group, _ in self.waiting]
            if any(self._left(group) for group in groups):
                self.launcher.begin(self.sweep)
            self._plan(groups)
            self._submit()
            while self.tasks:
                self.launcher.poll(self.hear)
                self._give_up_silent()
                self._submit()
                check()
        except BaseException:
            self.launcher.close(self.hear)
            raise
        for name in (*self.older, *self.torn):
            self._remove(name)

    def hear(self, message: Message) -> None:
        """Process a message; of an attempt that was given up only the records count."""
        content = message.content
        if isinstance(content, Finished):
            self._record(content)
        task = self.tasks.get(message.key)
        if task is None:
            return
        task.heard = time.monotonic()
        match content:
            case Progress():
                self.observer.stepped(task.group.width, task.assignment.queue, content)
            case ThroughputRecord():
                self.store.append_throughput(content)
                self.observer.measured(content)
            case Rung():
                task.rung = content
            case str():
                self.observer.noted(content)
            case Refused(error):
                raise error
            case Failed() | Done():
                del self.tasks[message.key]
                self._end(task, content)

    def _submit(self) -> None:
        while self.waiting and self.launcher.has_room():
            group, attempt = self.waiting.popleft()
            left = self._left(group)
            if not left:
                self._remove(group.checkpoint)
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

    def _plan(self, groups: Iterable[Group]) -> None:
        found = [(group, left) for group in groups if (left := self._left(group))]
        folder = self.store.path.parent
        planned = [
            Planned(name_of(left), group.width, len(left), begun_steps(folder / group.checkpoint))
            for group, left in found
        ]
        self.observer.planned(planned, self.launcher.at_once)

    def _limit(self, width: int) -> Rung:
        return self.limits.get(width, self.settings.limit)

    def _left(self, group: Group) -> tuple[Trial, ...]:
        return tuple(trial for trial in group.trials if trial.id not in self.settled)

    def _remove(self, checkpoint: str) -> None:
        self.store.path.with_name(checkpoint).unlink(missing_ok=True)

    def _record(self, found: Finished) -> None:
        new = found.only({record.trial for record in found.records} - self.settled)
        if new.records:
            self.store.append(new)
            self.observer.recorded(new.records)
            self.settled |= {record.trial for record in new.records}

    def _end(self, task: Task, end: Failed | Done) -> None:
        left = self._left(task.group)
        if not left:
            # a worker leaves its file if it dies after its last record
            self._remove(task.group.checkpoint)
            return
        self.observer.dropped(task.group.width, task.assignment.queue)
        if isinstance(end, Done):
            end = Failed("some of its records were lost", "elsewhere", died=True)
        elif task.silent:
            end = Failed(f"it was silent for {self.settings.timeout:g} s", "rung", died=True)
        self._retry(task, left, end)

    def _retry(self, task: Task, left: Sequence[Trial], failed: Failed) -> None:
        """Try again, one rung lower if there is one, or record the trials as failed."""
        group, attempt = task.group, task.assignment.attempt
        limit = task.assignment.limit
        # a worker that died before its choice had at most the limit, and no graph on a CPU
        ran = task.rung or replace(limit, captured=limit.captured and self.kind == "cuda")
        lower = next_lower(ran, failed.fault)
        if lower is None and (not failed.died or attempt >= ATTEMPTS):
            lost = f"{attempt} workers were lost, the last because {failed.reason}"
            reason = lost if failed.died else failed.reason
            queue = task.assignment.queue
            records = [failed_record(self.sweep.protocol, t, queue, reason) for t in left]
            self._record(Finished(records))
            return
        if lower is not None:
            self.limits[group.width] = lower.under(self._limit(group.width))
        self.waiting.appendleft((group, attempt + 1))
        self._plan([group])
        self.observer.noted(retry_sentence(group.width, len(left), ran, lower, failed))

    def _give_up_silent(self) -> None:
        now, timeout = time.monotonic(), self.settings.timeout
        for key, task in self.tasks.items():
            if task.heard is not None and not task.silent and now - task.heard > timeout:
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
