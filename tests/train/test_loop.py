from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.checkpoint import Checkpoint
from mutransfer_cli.train.loop import CURVE_POINTS, LOOKS, Progress, TrialResult, steps_to_empty
from tests.conftest import CPU

Prepare = Callable[[dict[str, Any]], Sweep]
STEPS, WIDTH = 60, 16


def result(losses: list[float], eval_loss: float) -> TrialResult:
    return TrialResult(torch.tensor(losses), eval_loss, seconds=1.0)


def test_the_train_loss_is_the_mean_of_the_last_tenth() -> None:
    ramp = [float(step) for step in range(40)]
    assert result(ramp, 1.0).final_train_loss == pytest.approx((36 + 37 + 38 + 39) / 4)
    assert result([5.0, 3.0], 1.0).final_train_loss == 3.0


def test_divergence_is_the_first_loss_that_is_not_finite() -> None:
    assert result([1.0, 1.0, 1.0], 2.0).diverged_at is None
    assert result([1.0, math.nan, math.nan], math.nan).diverged_at == 2
    assert result([1.0, 1.0, 1.0], math.inf).diverged_at == 3, "only eval was not finite"


def test_a_curve_has_about_a_hundred_points_and_its_last() -> None:
    long = result([float(step) for step in range(1, 1051)], 1.0)
    steps, losses = long.curve
    assert CURVE_POINTS * 0.9 <= len(steps) <= CURVE_POINTS + 1
    assert (steps[0], steps[-1]) == (1, 1050)
    assert losses == [float(step) for step in steps]


def test_a_diverged_curve_ends_before_the_divergence() -> None:
    assert result([4.0, 3.0, math.nan], math.nan).curve == ([1, 2], [4.0, 3.0])
    assert result([math.nan, math.nan], math.nan).curve == ([], [])


@pytest.fixture
def sweep(tiny_mlp: dict[str, Any], prepare: Prepare) -> Sweep:
    """A sweep of rates, some of which diverge, one at once and one late."""
    tiny_mlp["train"] |= {"steps": STEPS, "batch": 4}
    rates = [2.0**-7, 1e5, 1e30, 2.0**-6, 1e10, 2.0**-5]
    tiny_mlp["sweep"] = {"widths": [WIDTH], "axes": {"lr": rates}}
    return prepare(tiny_mlp)


class Watched:
    """A training run: the steps between looks, and the results of the trials."""

    def __init__(self, sweep: Sweep, count: int, slots: int, pause: float = 0.0) -> None:
        self.results: dict[str, TrialResult] = {}
        self.between, self.pause, self.steps = list[int](), pause, 0
        jobs = sweep.jobs(sweep.trials[WIDTH][:count])
        sweep.trainer(WIDTH, DeviceText.on(CPU, sweep.corpus)).run(
            jobs,
            slots,
            self.results.update,
            report=lambda progress: self.look(),
            check=self.step,
            measured_steps=(0, 3, STEPS),
        )

    def step(self) -> None:
        time.sleep(self.pause)
        self.steps += 1

    def look(self) -> None:
        self.between.append(self.steps)
        self.steps = 0

    @property
    def records(self) -> dict[str, list[object]]:
        """All recorded values of each trial except its seconds."""
        return {
            trial: [
                result.diverged_at,
                result.curve,
                result.measurements,
                result.diverged_at or (result.final_train_loss, result.eval_loss),
            ]
            for trial, result in self.results.items()
        }


def test_quick_steps_are_looked_at_a_few_times_and_first_after_one(sweep: Sweep) -> None:
    between = Watched(sweep, count=1, slots=1).between
    assert sum(between) == STEPS
    assert between[0] == 1
    assert max(between) == STEPS // LOOKS


def test_slow_steps_are_looked_at_about_every_second(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last steps' times decide: here steps take 10 ms or more and a "second" is 50 ms."""
    monkeypatch.setattr("mutransfer_cli.train.loop.LOOKS", 1)
    monkeypatch.setattr("mutransfer_cli.train.loop.LOOK_SECONDS", 0.05)
    between = Watched(sweep, count=1, slots=1, pause=0.01).between
    assert sum(between) == STEPS
    assert max(between) <= 5


def test_a_checkpoint_that_is_due_is_written_at_the_next_look(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mutransfer_cli.train.loop.LOOKS", 1)
    monkeypatch.setattr("mutransfer_cli.train.loop.LOOK_SECONDS", 0.05)
    path, kept = tmp_path / "checkpoint.pt", list[bool]()

    def check() -> None:
        time.sleep(0.01)
        kept.append(path.exists())

    trainer = sweep.trainer(WIDTH, DeviceText.on(CPU, sweep.corpus))
    checkpoint = Checkpoint(path, "protocol", 0.0, pytest.fail)
    jobs = sweep.jobs(sweep.trials[WIDTH][:1])
    trainer.run(jobs, 1, lambda results: None, check=check, checkpoint=checkpoint)
    assert kept == [False] + [True] * (STEPS - 1), "due from the first look on"


def test_no_record_depends_on_when_looks_happen(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looks decide when the slot of a diverged trial is refilled; no record shows it."""
    usual = Watched(sweep, count=6, slots=2)
    monkeypatch.setattr("mutransfer_cli.train.loop.LOOK_SECONDS", 0.0)
    always = Watched(sweep, count=6, slots=2)
    monkeypatch.setattr("mutransfer_cli.train.loop.LOOK_SECONDS", 1e9)
    monkeypatch.setattr("mutransfer_cli.train.loop.LOOKS", 1)
    hardly = Watched(sweep, count=6, slots=2)
    assert len(always.between) > len(usual.between) > len(hardly.between)
    assert sum(always.between) < sum(hardly.between), "a diverged trial trains on until then"
    assert usual.records == always.records == hardly.records
    assert sum(result.diverged_at is not None for result in usual.results.values()) >= 2


@pytest.mark.parametrize("left", [[], [7], [60, 60, 60], [1, 30, 30]])
@pytest.mark.parametrize("waiting", [0, 1, 2, 3, 7])
def test_steps_to_empty_are_those_of_slots_that_take_the_next_trial(
    left: list[int], waiting: int
) -> None:
    slots = sorted([*left, *[0] * (3 - len(left))])
    for _ in range(waiting):
        heapq.heapreplace(slots, slots[0] + STEPS)
    assert steps_to_empty(left, waiting, 3, STEPS) == max(slots)


def test_progress_says_how_many_steps_are_left(tiny: dict[str, Any], prepare: Prepare) -> None:
    tiny["train"] |= {"steps": STEPS}
    tiny["sweep"] = {"widths": [WIDTH], "axes": {"lr": [2**-8, 2**-7, 2**-6]}}
    sweep = prepare(tiny)
    seen: list[Progress] = []
    trainer = sweep.trainer(WIDTH, DeviceText.on(CPU, sweep.corpus))
    trainer.run(sweep.jobs(sweep.trials[WIDTH]), 2, lambda results: None, seen.append)
    assert {p.steps + p.steps_left for p in seen} == {2 * STEPS}, "two trials, and then one"
    assert {p.slots for p in seen} == {2}
    assert seen[-1].steps_left == 0
    assert [p.elapsed for p in seen] == sorted(p.elapsed for p in seen)
