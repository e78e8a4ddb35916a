"""How long a sweep may be, measured: widths, steps and rates that take about two minutes here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.sweep import SweepGrid
from mutransfer_cli.sweep.choice import UNCOMPILED, Queue, model_allows, price
from mutransfer_cli.sweep.prepare import Sweep, expand
from mutransfer_cli.train.loop import TrialResult

SECONDS = 90.0  # of training; to start and to evaluate takes the rest of two minutes
# wide models go before steps become fewer than ENOUGH_STEPS, in which the ranking of rates settles
LEAST_STEPS, ENOUGH_STEPS, MOST_STEPS = 60, 120, 600
FEWEST_WIDTHS = 4
RATES, SEEDS = 7, (0, 1)
# a short run at the base width, from which the rates are chosen
PILOT_RATES = tuple(2.0**octave for octave in range(-13, 0))
PILOT_SECONDS, PILOT_LEAST_STEPS = 6.0, 30


@dataclass(frozen=True)
class Size:
    """The part of a sweep that decides how long it takes.

    Attributes:
        widths: ascending.
        seconds: predicted, with the workers that this machine has.
    """

    widths: tuple[int, ...]
    steps: int
    seconds: float

    @property
    def trials(self) -> int:
        """Number of trials with RATES rates and SEEDS."""
        return len(self.widths) * RATES * len(SEEDS)


def step_seconds(sweep: Sweep, device: torch.device) -> dict[int, float]:
    """Seconds of a step of one trial beside others at each width, timed on the device."""
    steps = sweep.protocol.train.steps
    prices = price(sweep, {}, device)
    return {found.width: found.seconds / (found.pending * steps) for found in prices}


def fitting(seconds: Mapping[int, float], base_width: int, workers: int) -> Size:
    """The most widths, and then the most steps, that take SECONDS, or the least that are of use.

    Wide models take most of the time, so that the widest ones go first.

    Args:
        seconds: of a step of one trial by width.
        base_width: is kept.
        workers: number that train at the same time.
    """
    widths = sorted(seconds)

    def of(steps: int) -> float:
        trials = RATES * len(SEEDS)
        return trials * steps * sum(seconds[width] for width in widths) / workers

    while len(widths) > FEWEST_WIDTHS and of(ENOUGH_STEPS) > SECONDS and widths[-1] > base_width:
        widths.pop()
    steps = min(MOST_STEPS, max(LEAST_STEPS, rounded(SECONDS / of(1))))
    return Size(tuple(widths), steps, of(steps))


def rounded(steps: float) -> int:
    """Steps, at most as many as given, in tens."""
    return max(1, int(steps / 10)) * 10


def best_rate(sweep: Sweep, most: int, device: torch.device, seconds: float) -> float:
    """The rate of PILOT_RATES with the lowest loss at the base width after a short training.

    Args:
        most: largest number of steps.
        seconds: of a step of one trial.

    Raises:
        InputError: no rate gives a finite loss.
    """
    width, train = sweep.protocol.parameterization.base_width, sweep.protocol.train
    affordable = int(PILOT_SECONDS / (seconds * len(PILOT_RATES)))
    steps = min(most, max(PILOT_LEAST_STEPS, affordable))
    short = train.model_copy(update={"steps": steps, "warmup": steps // 10})
    protocol = sweep.protocol.model_copy(update={"train": short})
    grid = SweepGrid(widths=(width,), axes={"lr": PILOT_RATES})
    pilot = replace(sweep, protocol=protocol, trials=expand(grid, protocol.hash))
    text, losses = DeviceText.on(device, sweep.corpus), dict[str, float]()

    def finished(results: Mapping[str, TrialResult]) -> None:
        losses.update((trial, result.eval_loss) for trial, result in results.items())

    trials = {trial.id: trial for trial in pilot.trials[width]}
    queue = Queue(pilot, trials, text)
    execution, _ = model_allows(queue, UNCOMPILED)
    jobs = pilot.jobs(trials.values())
    queue.trainer(execution).run(jobs, len(jobs) if execution.batched else 1, finished)
    finite = {trial: found for trial, found in losses.items() if math.isfinite(found)}
    if not finite:
        raise InputError(
            f"model: every learning rate from 2^-13 to 2^-1 diverges within {steps} steps at width "
            f"{width}; look at the model's loss on one batch"
        )
    return trials[min(finite, key=lambda trial: finite[trial])].axes["lr"]
