"""Trials pass through slots: no result depends on when, where and beside which others it trains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.loop import LOOKS, Progress, Trainer, TrialResult, train_steps
from mutransfer_cli.train.slots import Slots
from tests.conftest import CPU
from tests.train.trained import train_jobs

Prepare = Callable[[dict[str, Any]], Sweep]
STEPS, WIDTH = 40, 16


@pytest.fixture
def sweep(tiny: dict[str, Any], prepare: Prepare) -> Sweep:
    """Seven rates and two seeds; the highest rate diverges."""
    tiny["train"] |= {"steps": STEPS}
    rates = [*(2.0**k for k in range(-9, -3)), 1e30]
    tiny["sweep"] = {"widths": [WIDTH], "axes": {"lr": rates}, "seeds": [0, 1]}
    return prepare(tiny)


@pytest.fixture
def trainer(sweep: Sweep) -> Trainer:
    return sweep.trainer(WIDTH, DeviceText.on(CPU, sweep.corpus))


def test_a_queue_ends_as_each_of_its_trials_alone_bit_for_bit(
    sweep: Sweep, trainer: Trainer
) -> None:
    """Diverged trials free their slots, so the others are out of step with each other."""
    jobs = sweep.jobs(sweep.trials[WIDTH])
    queue, backwards = train_jobs(trainer, jobs, 3), train_jobs(trainer, jobs[::-1], 4)
    for index, job in enumerate(jobs):
        alone = train_jobs(trainer, [job], 1)
        steps = queue.diverged_at[index] or STEPS
        assert alone.diverged_at == [queue.diverged_at[index]]
        for other, at in ((queue, index), (backwards, len(jobs) - 1 - index)):
            ours, its = other.train_losses[:steps, at], alone.train_losses[:steps, 0]
            assert torch.equal(ours.nan_to_num(), its.nan_to_num())
            if steps == STEPS:
                assert torch.equal(other.eval_losses[at], alone.eval_losses[0])
    assert sum(at is not None for at in queue.diverged_at) == 2


def test_a_diverged_trial_makes_room_at_the_next_look(sweep: Sweep, trainer: Trainer) -> None:
    jobs = sweep.jobs(sweep.trials[WIDTH])
    steps: list[None] = []
    trainer.run(jobs, len(jobs) // 2, lambda results: None, check=lambda: steps.append(None))
    assert len(steps) <= 2 * STEPS + 2 * STEPS // LOOKS, "two rounds and two looks"


def test_a_trial_that_recovered_before_anyone_looked_has_diverged(
    sweep: Sweep, trainer: Trainer
) -> None:
    slots = trainer.slots(sweep.jobs(sweep.trials[WIDTH][:2]), 3)
    train_steps(slots, 5, lambda: None, None)
    assert slots.diverged() == [False] * 3, "an empty slot has not"
    slots.history[1, 2] = torch.inf
    slots.history[0, 7] = torch.inf  # a step that is not reached
    assert slots.diverged() == [False, True, False]
    slots.clear(1)
    assert not any(slots.diverged())


def test_the_state_stays_at_its_addresses(sweep: Sweep, trainer: Trainer) -> None:
    first, second = sweep.jobs(sweep.trials[WIDTH][:2])
    slots = Slots(trainer.ensemble, trainer.text, trainer.train, first, 2)
    before = {name: stack.data_ptr() for name, stack in slots.state().items()}
    slots.fill(0, first)
    slots.step()
    slots.fill(1, second)
    slots.step()
    assert {name: stack.data_ptr() for name, stack in slots.state().items()} == before


def test_an_empty_slot_changes_no_weight(sweep: Sweep, trainer: Trainer) -> None:
    (job,) = sweep.jobs(sweep.trials[WIDTH][:1])
    slots = Slots(trainer.ensemble, trainer.text, trainer.train, job, 2)
    slots.fill(0, job)
    before = {name: stack.detach().clone() for name, stack in slots.trials.params.items()}
    slots.step()
    for name, stack in slots.trials.params.items():
        assert torch.equal(stack[1], before[name][1])
        assert not torch.equal(stack[0], before[name][0])


def test_trials_that_end_together_are_reported_together(sweep: Sweep, trainer: Trainer) -> None:
    jobs = sweep.jobs(sweep.trials[WIDTH][:4])
    batches: list[set[str]] = []
    reports: list[Progress] = []
    trainer.run(jobs, 2, lambda results: batches.append(set(results)), reports.append)
    assert batches == [{jobs[0].id, jobs[1].id}, {jobs[2].id, jobs[3].id}]
    assert {report.running for report in reports} == {2}
    assert max(report.trials_done for report in reports) == 2


def test_wall_time_is_shared_by_those_in_training(sweep: Sweep, trainer: Trainer) -> None:
    jobs, results = sweep.jobs(sweep.trials[WIDTH][:4]), dict[str, TrialResult]()
    trainer.run(jobs, 4, results.update)
    seconds = {result.seconds for result in results.values()}
    assert len(seconds) == 1
    assert 0 < seconds.pop() < 60
