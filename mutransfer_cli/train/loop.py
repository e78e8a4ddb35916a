"""Trains the trials of one width: a queue of jobs through slots, from first weights to eval losses.

Before compiled or captured steps train anything, their first losses are compared with those of the
same steps launched one by one: a graph that froze a value, or miscompiled code, would otherwise
train on and give wrong numbers. Shapes: T slots, K steps.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.diagnose.sizes import Measurement
from mutransfer_cli.spec.sweep import TrainSpec
from mutransfer_cli.train.checkpoint import Checkpoint, Saved
from mutransfer_cli.train.ensemble import Ensemble
from mutransfer_cli.train.execution import EAGER
from mutransfer_cli.train.slots import Job, Slots

Check = Callable[[], None]  # called before every step; may raise to stop the training there

CURVE_POINTS = 100
LOOKS = 20  # fewest looks at the losses of a trial
LOOK_SECONDS = 1.0  # about the longest time between looks; an interrupt waits as long
TIMED_STEPS = 2
REHEARSED_STEPS = 3
# relative differences of losses that rounding explains, by precision: about ten times the largest
# seen between compiled and launched steps of well-behaved trials
ROUNDING = {"fp64": 1e-9, "fp32": 1e-4, "tf32": 1e-2, "bf16": 3e-2}
EXPLODED = 1.5  # times the first loss: beyond that, training amplifies rounding


class UnlikeLaunched(RuntimeError):
    """Compiled or captured steps give other losses than the same steps launched one by one."""


@dataclass(frozen=True)
class TrialResult:
    """Result of training one trial.

    Attributes:
        train_losses: [steps run], nats per token or squared error; not finite from divergence on.
        eval_loss: in the same unit; not finite for a diverged trial.
        seconds: the trial's share of the wall time.
        measured: all measurements, including those after a divergence.
    """

    train_losses: Tensor
    eval_loss: float
    seconds: float
    measured: Sequence[Measurement] = ()

    @property
    def diverged_at(self) -> int | None:
        """First step, counted from 1, whose loss is not finite; the last step if only eval was."""
        bad = (~self.train_losses.isfinite()).nonzero()
        if len(bad):
            return int(bad[0]) + 1
        return None if math.isfinite(self.eval_loss) else len(self.train_losses)

    @property
    def final_train_loss(self) -> float:
        """Mean over the last tenth of the steps."""
        tail = max(1, len(self.train_losses) // 10)
        return float(self.train_losses[-tail:].double().mean())

    @property
    def curve(self) -> tuple[list[int], list[float]]:
        """About CURVE_POINTS steps (from 1) and their losses, up to divergence or the last step."""
        end = (self.diverged_at or len(self.train_losses) + 1) - 1
        stride = max(1, math.ceil(end / CURVE_POINTS))
        steps = sorted({*range(1, end + 1, stride), end} - {0})
        return steps, [float(self.train_losses[step - 1]) for step in steps]

    @property
    def measurements(self) -> list[Measurement]:
        """Measurements before a divergence."""
        end = self.diverged_at or len(self.train_losses) + 1
        return [measurement for measurement in self.measured if measurement.step < end]


@dataclass(frozen=True)
class Progress:
    """State of a queue in training.

    Attributes:
        running: number of trials in training.
        alive: number of these whose losses are finite.
        trials_done: work done on these, in whole trials.
        tokens: trained on since the last finished trials.
        seconds: taken since then.
        slots: trials side by side.
        steps: run by the slots since the queue began.
        elapsed: seconds since then.
        steps_left: still to run until the queue is empty, unless more trials diverge.
    """

    running: int
    alive: int
    trials_done: float
    tokens: int
    seconds: float
    slots: int
    steps: int
    elapsed: float
    steps_left: int


@dataclass(frozen=True)
class Speed:
    """Time that a queue took: `tokens` in `seconds` of training, after `start` seconds of building,
    compiling and capturing."""

    tokens: int
    seconds: float
    start: float


@dataclass(frozen=True)
class StepCost:
    """Cost of one step of a group: seconds, and peak bytes if the device counts them."""

    seconds: float
    memory: int | None


class Trainer:
    """Trains queues of one width: the ensemble and the text stay, trials come and go."""

    def __init__(self, ensemble: Ensemble, text: DeviceText, train: TrainSpec) -> None:
        self.ensemble, self.text, self.train = ensemble, text, train

    def run(
        self,
        jobs: Sequence[Job],
        count: int,
        finished: Callable[[dict[str, TrialResult]], None],
        report: Callable[[Progress], None] = lambda progress: None,
        check: Check = lambda: None,
        checkpoint: Checkpoint | None = None,
        measured_steps: Sequence[int] = (),
    ) -> Speed:
        """Train every job, `count` at a time; a diverged one makes room early.

        Args:
            finished: receives the results of jobs that end together, by id.
            report: called at every look, at least LOOKS times per trial.
            checkpoint: holds the jobs that were in training, and keeps those that are.
            measured_steps: numbers of steps after which trials are measured, from 0; may be empty.

        Raises:
            UnlikeLaunched: compiled or captured steps give other losses than launched ones.
        """
        started = time.perf_counter()
        slots = Slots(self.ensemble, self.text, self.train, jobs[0], count, measured_steps)
        if self.ensemble.execution != EAGER and self.ensemble.execution.batched:
            rehearse(slots, jobs[:count])
        saved = checkpoint.waiting if checkpoint else {}
        for trial, kept in saved.items():
            saved[trial] = replace(kept, state=slots.completed(kept.state))
        queue = deque(sorted(jobs, key=lambda job: job.id not in saved))
        refill(slots, queue, saved)
        seconds, tokens, all_tokens, all_steps = [0.0] * count, 0, 0, 0
        step_seconds = math.inf  # until the first step is measured
        begun = mark = since = time.perf_counter()
        while busy := slots.busy:
            steps, looked = self._steps_to_next_look(slots, step_seconds), time.perf_counter()
            train_steps(slots, steps, check, checkpoint)
            diverged, now = slots.diverged(), time.perf_counter()
            step_seconds = (now - looked) / steps
            for slot in busy:
                seconds[slot] += (now - mark) / len(busy)
            tokens, mark = tokens + steps * len(busy) * self.train.batch * self.train.context, now
            all_steps += steps
            ran, waiting = (all_steps, now - begun), len(queue)
            report(self._progress(slots, diverged, tokens, now - since, ran, waiting))
            ended = [s for s in busy if diverged[s] or slots.steps_done[s] == self.train.steps]
            if ended:
                finished(collect(slots, ended, seconds))
                for slot in ended:
                    slots.clear(slot)
                    seconds[slot] = 0.0
                all_tokens, tokens, since = all_tokens + tokens, 0, now
                refill(slots, queue, saved)
            if checkpoint is not None:
                checkpoint.keep(slots)
        return Speed(all_tokens, time.perf_counter() - begun, begun - started)

    def slots(self, jobs: Sequence[Job], count: int) -> Slots:
        """New slots with the first jobs in them."""
        slots = Slots(self.ensemble, self.text, self.train, jobs[0], count)
        refill(slots, deque(jobs), {})
        return slots

    def step_cost(self, jobs: Sequence[Job]) -> StepCost:
        """Cost of a step of all these jobs side by side: the fastest of a few after a warm-up."""
        device, memory = self.ensemble.device, None
        counted = device.type == "cuda"
        if counted:
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
        slots = self.slots(jobs, len(jobs))
        times = []
        for _ in range(1 + TIMED_STEPS):
            started = time.perf_counter()
            slots.step()
            slots.advance(1)
            slots.diverged()
            times.append(time.perf_counter() - started)
        if counted:
            memory = torch.cuda.max_memory_allocated(device) - before
        return StepCost(min(times[1:]), memory)

    def _steps_to_next_look(self, slots: Slots, step_seconds: float) -> int:
        left = min(self.train.steps - slots.steps_done[slot] for slot in slots.busy)
        wanted = min(self.train.steps // LOOKS, int(LOOK_SECONDS / step_seconds))
        return min(left, max(1, wanted))

    def _progress(
        self,
        slots: Slots,
        diverged: Sequence[bool],
        tokens: int,
        seconds: float,
        ran: tuple[int, float],
        waiting: int,
    ) -> Progress:
        busy, steps = slots.busy, self.train.steps
        left = [steps - slots.steps_done[slot] for slot in busy if not diverged[slot]]
        trials_done = sum(slots.steps_done[slot] for slot in busy) / steps
        to_empty = steps_to_empty(left, waiting, len(slots.jobs), steps)
        size = len(slots.jobs)
        return Progress(len(busy), len(left), trials_done, tokens, seconds, size, *ran, to_empty)


def steps_to_empty(left: Sequence[int], waiting: int, count: int, steps: int) -> int:
    """Steps until slots have finished their trials and those that wait for one.

    Args:
        left: steps left of each trial that is in a slot.
        waiting: number of trials that wait, each of `steps` steps.
        count: number of slots, which take the next trial as soon as they are empty.
    """
    ends = sorted([*left, *[0] * (count - len(left))])
    rounds, more = divmod(waiting, count)
    longer = ends[more - 1] + steps if more else 0
    return rounds * steps + max(longer, ends[-1])


def train_steps(slots: Slots, steps: int, check: Check, checkpoint: Checkpoint | None) -> None:
    """Run `steps` steps of every slot; if `check` raises, save a checkpoint first."""
    for _ in range(steps):
        try:
            check()
        except BaseException:
            if checkpoint is not None:
                checkpoint.keep(slots, at_once=True)
            raise
        slots.step()
        slots.advance(1)


def refill(slots: Slots, queue: deque[Job], saved: dict[str, Saved]) -> None:
    """Put the next jobs into empty slots, at their saved step or at the first one."""
    for slot, before in enumerate(slots.jobs):
        if before is None and queue:
            job = queue.popleft()
            if job.id in saved:
                kept = saved.pop(job.id)
                slots.restore(slot, kept.state, job, kept.steps)
            else:
                slots.fill(slot, job)


def collect(slots: Slots, ended: Sequence[int], seconds: Sequence[float]) -> dict[str, TrialResult]:
    """Results of the slots that ended, by id of their jobs."""
    eval_losses = slots.evaluate()
    results = {}
    for slot in ended:
        job = slots.jobs[slot]
        assert job is not None, "only a slot in training ends"
        results[job.id] = TrialResult(
            slots.losses(slot), eval_losses[slot], seconds[slot], slots.measurements(slot)
        )
    return results


def rehearse(slots: Slots, jobs: Sequence[Job]) -> None:
    """Train and evaluate jobs for a few steps, launched and as `slots` will; then clear the slots.

    Raises:
        UnlikeLaunched: losses differ by more than rounding.
    """
    with slots.ensemble.uncompiled():
        expected = first_losses(slots, jobs, launched=True)
    found = first_losses(slots, jobs, launched=False)
    for slot in slots.busy:
        slots.clear(slot)
    worst = largest_difference(found, expected)
    allowed = ROUNDING[slots.train.precision]
    if worst > allowed:
        raise UnlikeLaunched(
            f"losses of the first {REHEARSED_STEPS} steps differ by {worst:.1e} from those of "
            f"launched steps (rounding explains {allowed:.0e})"
        )


def first_losses(slots: Slots, jobs: Sequence[Job], launched: bool) -> Tensor:
    """Training losses of the first steps and, last, the sum of as many eval losses, [T, K + 1]."""
    for slot, job in enumerate(jobs):
        slots.fill(slot, job)
    slots.eval_total.zero_()
    slots.eval_index.zero_()
    for _ in range(REHEARSED_STEPS):
        slots.run_step(launched)
        slots.advance(1)
    for batch in range(REHEARSED_STEPS):
        slots.run_eval_batch(batch % slots.train.eval_batches, launched)
    losses = torch.cat([slots.history[:, :REHEARSED_STEPS], slots.eval_total.unsqueeze(1)], dim=1)
    return losses[: len(jobs)].double().cpu()


def largest_difference(found_TK: Tensor, expected_TK: Tensor) -> float:
    """Largest difference relative to the expected losses, among losses that have not exploded."""
    first_T1 = expected_TK[:, :1]
    tame = expected_TK.isfinite() & (expected_TK <= EXPLODED * first_T1)
    # the last column sums REHEARSED_STEPS eval losses, after all these steps
    limit_T = REHEARSED_STEPS * EXPLODED * first_T1[:, 0]
    tame[:, -1] = tame[:, :-1].all(1) & (expected_TK[:, -1] <= limit_T)
    difference = (found_TK - expected_TK).abs() / expected_TK.abs()
    # a loss that is not finite where it should be counts as an infinite difference
    return float(difference.nan_to_num(nan=torch.inf)[tame].max()) if tame.any() else 0.0
