"""About how long a sweep will take, from the steps that have been timed.

A step of s trials side by side takes k * (launch + s * work) seconds: a part that every step has,
and the work of its trials, both in FLOPs. Small models wait for memory more than they compute, so
that a trial's work is its FLOPs and, for each byte that it holds, BYTE_FLOPS. Both numbers are
fitted to all widths timed so far, in this run and in earlier ones, so that widths not yet timed can
be priced.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from mutransfer_cli.spec.records import TrialRecord
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.cost import Cost
from mutransfer_cli.train.group_size import useful_slots
from mutransfer_cli.train.loop import Progress, steps_to_empty

# measured on CPU cores: decoders of depths 1 and 2, widths 16 to 192, 1 to 20 trials side by side
LAUNCH_FLOPS = 8.8e7  # of a step, for each tensor of the model
BYTE_FLOPS = 40.0
LAUNCH_DOUBT = 0.2  # weight of that figure beside a timed width: other programs disturb the timing
RECENT = 60.0  # seconds after which a timed step counts half
LATE = 180.0  # seconds after which a width that was timed counts half
SURE = 5.0  # seconds of steps that have half the weight of many
EVAL_STEP = 0.4  # time of an eval batch, in steps: it has no backward pass
TIMING_STEPS = 6  # about what timing group sizes takes, in steps


@dataclass(frozen=True)
class Timed:
    """Steps that were timed.

    Attributes:
        step: seconds of one.
        weight: how much they count.
    """

    step: float
    weight: float

    @classmethod
    def of(cls, steps: float, seconds: float, age: float = 0.0) -> Timed:
        """Weigh steps by the seconds they took together, and by the seconds since then."""
        return cls(seconds / steps, seconds / (seconds + SURE) * 0.5 ** (age / LATE))


Run = Mapping[tuple[int, int], Timed]  # timed steps by width and number of slots


@dataclass(frozen=True)
class Planned:
    """Trials of one width that will be trained by one worker.

    Attributes:
        name: name of the group in progress and records.
        begun: steps done of the trials that an earlier run has begun.
    """

    name: str
    width: int
    trials: int
    begun: tuple[int, ...] = ()


@dataclass(frozen=True)
class StepTimes:
    """Seconds of a step at any width, fitted to timed ones.

    Attributes:
        work: FLOPs of a trial's step, bytes included, by width.
        launch: FLOPs that take as long as the constant part of a step.
        speed: log of the seconds that a FLOP takes.
        off: log of measured over fitted seconds, by width.
    """

    work: Mapping[int, float]
    launch: float
    speed: float = 0.0
    off: Mapping[int, float] = field(default_factory=dict)

    @classmethod
    def fit(cls, work: Mapping[int, float], launch: float, runs: Sequence[Run]) -> StepTimes:
        """Fit the constant part, common to all runs, and the speed of each.

        Args:
            launch: expected constant part; it decides as long as one width is timed.
            runs: timed steps of several runs; the last that is not empty gives the speed.
        """
        runs = [run for run in runs if run]
        if not runs:
            return cls(work, launch)

        def misfit(log_factor: float) -> float:
            tried = cls(work, launch * math.exp(log_factor))
            squares = sum(tried._spread(run) for run in runs)
            return squares + LAUNCH_DOUBT * log_factor**2

        best = cls(work, launch * math.exp(min((k / 4 for k in range(-20, 21)), key=misfit)))
        off: dict[int, float] = {}
        for run in runs:
            found = best._off(run)
            speed = weighted_mean(found.values())
            for width in {width for width, _ in run}:
                here = [measured for (at, _), measured in found.items() if at == width]
                off[width] = weighted_mean(here) - speed
        return cls(work, best.launch, speed, off)

    def seconds(self, width: int, slots: int) -> float:
        """Seconds of a step of `slots` trials side by side."""
        work = self.launch + slots * self.work[width]
        return work * math.exp(self.speed + self.off.get(width, 0.0))

    def _off(self, run: Run) -> dict[tuple[int, int], tuple[float, float]]:
        return {
            at: (math.log(found.step / self.seconds(*at)), found.weight)
            for at, found in run.items()
        }

    def _spread(self, run: Run) -> float:
        found = self._off(run).values()
        mean = weighted_mean(found)
        return sum(weight * (value - mean) ** 2 for value, weight in found)


def weighted_mean(found: Collection[tuple[float, float]]) -> float:
    """Mean of values, each with its weight."""
    return sum(value * weight for value, weight in found) / sum(weight for _, weight in found)


def step_work(cost: Cost, steps: int) -> float:
    """FLOPs of a trial's step, with those that take as long as its bytes."""
    return cost.flops / steps + BYTE_FLOPS * cost.memory(1)


@dataclass
class _Group:
    """A group of the plan; `seen` and `at` hold its last progress, and the time of that."""

    planned: Planned
    left: int
    seen: Progress | None = None
    at: float = 0.0
    steps: float = 0.0
    seconds: float = 0.0

    def look(self, progress: Progress, now: float) -> None:
        """Take a look at the training, and time the steps since the last look."""
        if self.seen is not None:  # the first steps are slow
            seconds = progress.elapsed - self.seen.elapsed
            kept = 0.5 ** (seconds / RECENT)
            self.steps = kept * self.steps + progress.steps - self.seen.steps
            self.seconds = kept * self.seconds + seconds
        self.seen, self.at = progress, now


class TimeLeft:
    """Follows a sweep in training, and says about how long it will still take.

    Times are those of any one clock, in seconds.

    Args:
        step_work: FLOPs of a trial's step, bytes included, by width.
        tensors: number of tensors of the model.
        steps: of a trial.
        eval_batches: run when a trial ends.
        slots: trials side by side, by width, until a group says how many it has.
    """

    def __init__(
        self,
        step_work: Mapping[int, float],
        tensors: int,
        steps: int,
        eval_batches: int,
        slots: Mapping[int, int],
    ) -> None:
        self._step_work, self._launch = step_work, LAUNCH_FLOPS * tensors
        self._steps, self._eval_steps = steps, EVAL_STEP * eval_batches
        self._slots = dict(slots)
        self._work = {at: step_work[at] + self._launch / slots[at] for at in step_work}
        self._groups: dict[str, _Group] = {}
        self._at_once: int | None = None
        self._here: dict[tuple[int, int], tuple[float, float, float]] = {}
        self._earlier: dict[tuple[int, int], Timed] = {}
        self._done = dict.fromkeys(step_work, 0)
        self._stale = True

    @classmethod
    def of(cls, sweep: Sweep, recorded: Sequence[TrialRecord], device_type: str) -> TimeLeft:
        """Begin with the records of earlier runs."""
        train = sweep.protocol.train
        left = cls(
            {width: step_work(sweep.cost(width), train.steps) for width in sweep.trials},
            len(sweep.base_plan),
            train.steps,
            train.eval_batches,
            {width: useful_slots(sweep.protocol, width, device_type) for width in sweep.trials},
        )
        left.earlier(recorded)
        return left

    def earlier(self, records: Sequence[TrialRecord]) -> None:
        """Learn from the records of earlier runs how long steps take."""
        steps: dict[tuple[int, int], float] = {}
        seconds: dict[tuple[int, int], float] = {}
        for record in records:
            self._done[record.width] += 1
            at = record.width, record.group_size
            steps[at] = steps.get(at, 0.0) + record.steps
            # a trial has its share of the time of all trials beside it
            seconds[at] = seconds.get(at, 0.0) + record.seconds * record.group_size
        self._earlier = {
            at: Timed.of(steps[at], seconds[at]) for at in steps if steps[at] and seconds[at]
        }
        self._slots |= dict(sorted(self._earlier))
        self._stale = True

    def planned(self, groups: Sequence[Planned], at_once: int | None) -> None:
        """Add groups, before those that wait.

        Args:
            at_once: groups trained at the same time; None: as many as are seen in training.
        """
        self._groups = {group.name: _Group(group, group.trials) for group in groups} | self._groups
        self._at_once = at_once

    def dropped(self, name: str) -> None:
        """Forget a group, which ended without all its records."""
        self._groups.pop(name, None)

    def stepped(self, name: str, progress: Progress, now: float) -> None:
        """Time the steps of a group in training."""
        group = self._groups.get(name)
        if group is None or not progress.steps:
            return
        group.look(progress, now)
        width = group.planned.width
        self._slots[width] = progress.slots
        if group.seconds:
            self._here[width, progress.slots] = group.steps, group.seconds, now
            self._stale = True

    def recorded(self, name: str, width: int, trials: int) -> bool:
        """Count trials that are done; tell whether the group is."""
        self._done[width] += trials
        group = self._groups.get(name)
        if group is None:
            return False
        group.left -= trials
        if group.left <= 0:
            del self._groups[name]
        return group.left <= 0

    def seconds(self, now: float) -> float | None:
        """About how long the sweep will still take; None before anything was timed."""
        if not (self._here or self._earlier):
            return None
        running = [group for group in self._groups.values() if group.seen]
        waiting = [group for group in self._groups.values() if not group.seen]
        workers = max(1, self._at_once or 0, len(running))
        ends = [self._left(group, now) for group in running] + [0.0] * (workers - len(running))
        heapq.heapify(ends)
        for group in waiting:
            heapq.heapreplace(ends, ends[0] + self._left(group, now))
        return max(ends)

    def share(self) -> float:
        """Share of the work that is done, from 0 to 1, as expected before anything was timed."""
        done = sum(count * self._work[width] for width, count in self._done.items())
        left = 0.0
        for group in self._groups.values():
            each = self._work[group.planned.width]
            begun = group.seen.trials_done if group.seen else sum(group.planned.begun) / self._steps
            done, left = done + begun * each, left + max(0.0, group.left - begun) * each
        return done / (done + left) if done + left else 1.0

    def _left(self, group: _Group, now: float) -> float:
        """Seconds that one worker takes for a group."""
        width, steps = group.planned.width, self._steps
        if group.seen is not None:
            each = self._times.seconds(width, group.seen.slots)
            whole = (group.seen.steps_left + self._eval_steps) * each
            return max(0.0, whole - (now - group.at))
        slots = min(self._slots[width], group.planned.trials)
        in_slots = [steps - done for done in group.planned.begun[:slots]]
        to_run = steps_to_empty(in_slots, group.left - len(in_slots), slots, steps)
        return (TIMING_STEPS + to_run + self._eval_steps) * self._times.seconds(width, slots)

    @property
    def _times(self) -> StepTimes:
        if self._stale:
            last = max((at for _, _, at in self._here.values()), default=0.0)
            here = {
                key: Timed.of(steps, seconds, last - at)
                for key, (steps, seconds, at) in self._here.items()
            }
            runs = [self._earlier, here]
            self._fitted, self._stale = StepTimes.fit(self._step_work, self._launch, runs), False
        return self._fitted
