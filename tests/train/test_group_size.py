from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.errors import InputError
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.cost import trial_cost
from mutransfer_cli.train.device import available_memory
from mutransfer_cli.train.group_size import (
    GroupSize,
    fastest,
    most_slots,
    predicted_memory,
    smallest_as_fast,
)
from mutransfer_cli.train.loop import StepCost
from tests.conftest import CPU

Prepare = Callable[[dict[str, Any]], Sweep]


def most(sweep: Sweep, width: int) -> int:
    return most_slots(sweep.protocol, width, trial_cost(sweep.protocol, width), CPU)


def test_memory_bounds_the_group(tiny: dict[str, Any], prepare: Prepare) -> None:
    sweep = prepare(tiny)
    size = most(sweep, 16)
    assert size > 1
    assert trial_cost(sweep.protocol, 16).memory(size) <= available_memory(CPU) // 2
    assert most(sweep, 8192) == 1


def test_a_trial_that_cannot_fit_is_refused_with_both_figures(
    tiny: dict[str, Any], prepare: Prepare
) -> None:
    with pytest.raises(InputError, match=r"width 8000000: one trial needs about \d+\.\d GB and"):
        most(prepare(tiny), 8_000_000)


@pytest.mark.parametrize(
    ("seconds", "trials", "size"),
    [
        ({1: 1.0}, 8, 1),
        ({1: 1.0, 2: 0.6, 4: 0.5, 8: 0.7}, 8, 4),
        ({1: 1.0, 2: 0.6, 4: 0.51, 8: 0.5}, 8, 4),
        ({1: 1.0, 2: 1.5, 4: 0.9}, 8, 4),
        ({1: 1.0, 4: 0.5, 7: 0.55}, 7, 7),
        ({1: 1.0, 4: 0.45, 7: 0.55}, 7, 4),
    ],
)
def test_a_larger_group_must_gain_three_per_cent(
    seconds: dict[int, float], trials: int, size: int
) -> None:
    """The time of all trials counts: seven in four slots leave one idle in the second round."""
    assert smallest_as_fast(seconds, trials) == size


def test_the_group_is_measured_where_training_is_long(
    tiny: dict[str, Any], prepare: Prepare
) -> None:
    tiny["train"]["steps"] = 200
    sweep = prepare(tiny)
    trials, cost = sweep.trials[16], trial_cost(sweep.protocol, 16)
    trainer = sweep.trainer(16, DeviceText.on(CPU, sweep.corpus))
    size = fastest(trainer, sweep.jobs(trials), len(trials), cost, 4)
    assert size.seconds is not None
    assert 0 < size.seconds < 1
    assert size.slots in (1, 2, 4)
    assert size.memory == cost.memory(size.slots)


def test_where_training_is_short_the_largest_is_taken_and_rounds_are_even(
    tiny: dict[str, Any], prepare: Prepare
) -> None:
    sweep = prepare(tiny)
    trials, cost = sweep.trials[16], trial_cost(sweep.protocol, 16)
    trainer = sweep.trainer(16, DeviceText.on(CPU, sweep.corpus))
    size = fastest(trainer, sweep.jobs(trials), 9, cost, 7)
    assert size == GroupSize(slots=5, memory=cost.memory(5), seconds=None)
    assert fastest(trainer, sweep.jobs(trials), 9, cost, 7, always=True).seconds


def test_memory_is_predicted_from_the_peaks_of_one_and_two(
    tiny: dict[str, Any], prepare: Prepare
) -> None:
    cost = trial_cost(prepare(tiny).protocol, 16)
    measured = {1: StepCost(1.0, 100), 2: StepCost(1.0, 160), 4: StepCost(1.0, 290)}
    assert predicted_memory(measured, cost, 4) == 290
    assert predicted_memory(measured, cost, 8) == 100 + 7 * 60
    assert predicted_memory({}, cost, 8) == cost.memory(8)
