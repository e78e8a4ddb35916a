"""Trains the trials of one width, a queue through slots, from first weights to eval losses."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from mutransfer_cli.data.text import DeviceText
from mutransfer_cli.files.spec import TrainSpec
from mutransfer_cli.train.checkpoint import Checkpoint
from mutransfer_cli.train.ensemble import Ensemble
from mutransfer_cli.train.slots import Job, Slots

CURVE_POINTS = 100
LOOKS = 20  # at the losses, in the steps of a trial


@dataclass(frozen=True)
class TrialResult:
    """What one trial gave.

    Attributes:
        train_losses: [steps run], nats per token; not finite from divergence on.
        eval_loss: nats per token; not finite for a diverged trial.
        seconds: its share of the wall time.
    """

    train_losses: Tensor
    eval_loss: float
    seconds: float

    @property
    def diverged_at(self) -> int | None:
        """First step, from 1, whose loss was not finite; the last step if only eval was not."""
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
        """About CURVE_POINTS (step from 1, loss) points up to divergence, the last one included."""
        end = (self.diverged_at or len(self.train_losses) + 1) - 1
        stride = max(1, math.ceil(end / CURVE_POINTS))
        steps = sorted({*range(1, end + 1, stride), end} - {0})
        return steps, [float(self.train_losses[step - 1]) for step in steps]


@dataclass(frozen=True)
class Progress:
    """Where a queue stands, since its last finished trials.

    Attributes:
        running: trials in training; alive: those whose losses are finite.
        trials_done: of the running ones, in units of whole trials.
        tokens, seconds: trained on and taken since the last finished trials.
    """

    running: int
    alive: int
    trials_done: float
    tokens: int
    seconds: float


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
        check: Callable[[], None] = lambda: None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Trains every job, `count` at a time; a diverged one makes room early.

        Args:
            finished: gets the results of jobs that end together, by id.
            report: called about LOOKS times in the steps of a trial.
            check: called before every step; what it raises ends the training.
            checkpoint: where jobs in training go on from, and are kept.
        """
        slots = Slots(self.ensemble, self.text, self.train, jobs[0], count)
        if checkpoint is not None:
            checkpoint.restore(slots, jobs)
        resumed = {job.id for job in slots.jobs if job is not None}
        queue = deque(job for job in jobs if job.id not in resumed)
        refill(slots, queue)
        seconds, tokens = [0.0] * count, 0
        mark = since = time.perf_counter()
        while busy := slots.busy:
            steps = self._steps_to_next_look(slots)
            train_steps(slots, steps, check, checkpoint)
            diverged, now = slots.diverged(), time.perf_counter()
            for slot in busy:
                seconds[slot] += (now - mark) / len(busy)
            tokens, mark = tokens + steps * len(busy) * self.train.batch * self.train.context, now
            report(self._progress(slots, diverged, tokens, now - since))
            ended = [s for s in busy if diverged[s] or slots.steps_done[s] == self.train.steps]
            if ended:
                finished(collect(slots, ended, seconds))
                for slot in ended:
                    slots.clear(slot)
                    seconds[slot] = 0.0
                tokens, since = 0, now
                refill(slots, queue)
            if checkpoint is not None:
                checkpoint.keep(slots)

    def seconds_per_step(self, jobs: Sequence[Job]) -> float:
        """Measured on the spot: the faster of two steps after one to warm up."""
        slots = Slots(self.ensemble, self.text, self.train, jobs[0], len(jobs))
        refill(slots, deque(jobs))
        times = []
        for _ in range(3):
            started = time.perf_counter()
            slots.step()
            slots.advance(1)
            slots.diverged()
            times.append(time.perf_counter() - started)
        return min(times[1:])

    def _steps_to_next_look(self, slots: Slots) -> int:
        left = min(self.train.steps - slots.steps_done[slot] for slot in slots.busy)
        return min(left, max(1, self.train.steps // LOOKS))

    def _progress(
        self, slots: Slots, diverged: Sequence[bool], tokens: int, seconds: float
    ) -> Progress:
        busy = slots.busy
        return Progress(
            running=len(busy),
            alive=sum(not diverged[slot] for slot in busy),
            trials_done=sum(slots.steps_done[slot] for slot in busy) / self.train.steps,
            tokens=tokens,
            seconds=seconds,
        )


def train_steps(
    slots: Slots, steps: int, check: Callable[[], None], checkpoint: Checkpoint | None
) -> None:
    """So many steps of every slot; kept at once when `check` ends them."""
    for _ in range(steps):
        try:
            check()
        except BaseException:
            if checkpoint is not None:
                checkpoint.keep(slots, at_once=True)
            raise
        slots.step()
        slots.advance(1)


def refill(slots: Slots, queue: deque[Job]) -> None:
    for slot, job in enumerate(slots.jobs):
        if job is None and queue:
            slots.fill(slot, queue.popleft())


def collect(slots: Slots, ended: Sequence[int], seconds: Sequence[float]) -> dict[str, TrialResult]:
    """Results of slots that ended, by id of their jobs."""
    eval_losses = slots.evaluate()
    results = {}
    for slot in ended:
        job = slots.jobs[slot]
        assert job is not None, "only a slot in training ends"
        results[job.id] = TrialResult(slots.losses(slot), eval_losses[slot], seconds[slot])
    return results
