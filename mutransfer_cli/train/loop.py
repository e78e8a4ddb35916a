"""Trains one group of trials from first weights to eval losses."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mutransfer_cli.data.text import DeviceText, eval_offsets, gather, train_offsets
from mutransfer_cli.files.spec import TrainSpec
from mutransfer_cli.train.ensemble import (
    Ensemble,
    Plan,
    Trials,
)
from mutransfer_cli.train.schedule import schedule_tensor

CURVE_POINTS = 100
REPORTS = 20


@dataclass(frozen=True)
class GroupResult:
    """What a group of T trials gave.

    Attributes:
        train_losses: [steps run, T], nats per token; not finite from divergence on.
        eval_losses: [T], nats per token; not finite for a diverged trial.
        seconds: wall time.
    """

    train_losses: Tensor
    eval_losses: Tensor
    seconds: float

    def diverged_at(self, trial: int) -> int | None:
        """First step, from 1, whose loss was not finite; the last step if only eval was not."""
        bad = (~self.train_losses[:, trial].isfinite()).nonzero()
        if len(bad):
            return int(bad[0]) + 1
        return None if math.isfinite(self.eval_losses[trial]) else len(self.train_losses)

    def final_train_loss(self, trial: int) -> float:
        """Mean over the last tenth of the steps."""
        tail = max(1, len(self.train_losses) // 10)
        return float(self.train_losses[-tail:, trial].double().mean())

    def curve(self, trial: int) -> tuple[list[int], list[float]]:
        """About CURVE_POINTS (step from 1, loss) points up to divergence, the last one included."""
        end = (self.diverged_at(trial) or len(self.train_losses) + 1) - 1
        stride = max(1, math.ceil(end / CURVE_POINTS))
        steps = sorted({*range(1, end + 1, stride), end} - {0})
        return steps, [float(self.train_losses[step - 1, trial]) for step in steps]


@dataclass(frozen=True)
class Progress:
    """Where a group stands: steps done, trials whose losses are still finite, tokens trained on."""

    step: int
    steps: int
    alive: int
    trials: int
    tokens: int
    seconds: float


class GroupTrainer:
    """Trains groups of one width: the ensemble and the text stay, trials come and go."""

    def __init__(self, ensemble: Ensemble, text: DeviceText, train: TrainSpec) -> None:
        self.ensemble, self.text, self.train = ensemble, text, train
        self.factors = schedule_tensor(train).to(ensemble.device)

    def run(
        self,
        plans: Sequence[Plan],
        seeds: Sequence[int],
        report: Callable[[Progress], None],
        check: Callable[[], None] = lambda: None,
    ) -> GroupResult:
        """Trains T trials, one plan and one seed each; stops early when none is finite.

        Args:
            report: called about REPORTS times.
            check: called before every step; what it raises ends the training.
        """
        started = time.perf_counter()
        train = self.train
        trials, train_step = self._begin(plans, seeds)
        device, dtype = self.ensemble.device, self.ensemble.dtype
        losses = torch.full((train.steps, len(plans)), math.nan, device=device, dtype=dtype)
        done = train.steps
        for step in range(train.steps):
            check()
            losses[step] = train_step(step)
            if (step + 1) % max(1, train.steps // REPORTS) == 0:
                alive = int(losses[step].isfinite().sum())
                report(
                    Progress(
                        step=step + 1,
                        steps=train.steps,
                        alive=alive,
                        trials=len(plans),
                        tokens=(step + 1) * len(plans) * train.batch * train.context,
                        seconds=time.perf_counter() - started,
                    )
                )
                if not alive:
                    done = step + 1
                    break
        eval_losses = self._evaluate(trials, len(plans))
        return GroupResult(losses[:done].cpu(), eval_losses.cpu(), time.perf_counter() - started)

    def seconds_per_step(self, plans: Sequence[Plan], seeds: Sequence[int]) -> float:
        """Measured on the spot: the faster of two steps after one to warm up."""
        _, train_step = self._begin(plans, seeds)
        times = []
        for _ in range(3):
            started = time.perf_counter()
            train_step(0).tolist()
            times.append(time.perf_counter() - started)
        return min(times[1:])

    def _begin(
        self, plans: Sequence[Plan], seeds: Sequence[int]
    ) -> tuple[Trials, Callable[[int], Tensor]]:
        """The trials, and the function that trains them for step s (from 0): losses [T]."""
        trials = self.ensemble.start(plans, seeds)
        offsets = self._offsets(seeds)

        def train_step(step: int) -> Tensor:
            tokens = gather(self.text.train, offsets[:, step], self.train.context)
            return self.ensemble.step(trials, tokens, self.factors[step].expand(len(plans)))

        return trials, train_step

    def _offsets(self, seeds: Sequence[int]) -> Tensor:
        """Starts of the sequences, [T, steps, batch]."""
        by_seed = {seed: train_offsets(self.text.corpus, self.train, seed) for seed in set(seeds)}
        return torch.stack([by_seed[seed] for seed in seeds]).to(self.ensemble.device)

    def _evaluate(self, trials: Trials, count: int) -> Tensor:
        batches = eval_offsets(self.text.corpus, self.train).to(self.ensemble.device)
        total = torch.zeros(count, device=self.ensemble.device, dtype=self.ensemble.dtype)
        for offsets in batches:
            tokens = gather(self.text.eval, offsets.expand(count, -1), self.train.context)
            total += self.ensemble.evaluate(trials, tokens)
        return total / len(batches)
