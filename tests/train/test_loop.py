from __future__ import annotations

import math

import pytest
import torch

from mutransfer_cli.train.loop import CURVE_POINTS, GroupResult


def result(losses: list[list[float]], eval_losses: list[float]) -> GroupResult:
    return GroupResult(torch.tensor(losses).T, torch.tensor(eval_losses), seconds=1.0)


def test_the_train_loss_is_the_mean_of_the_last_tenth() -> None:
    ramp = [float(step) for step in range(40)]
    assert result([ramp], [1.0]).final_train_loss(0) == pytest.approx((36 + 37 + 38 + 39) / 4)
    assert result([[5.0, 3.0]], [1.0]).final_train_loss(0) == 3.0


def test_divergence_is_the_first_loss_that_is_not_finite() -> None:
    group = result(
        [[1.0, 1.0, 1.0], [1.0, math.nan, math.nan], [1.0, 1.0, 1.0]], [2.0, math.nan, math.inf]
    )
    assert [group.diverged_at(trial) for trial in range(3)] == [None, 2, 3]


def test_a_curve_has_about_a_hundred_points_and_its_last() -> None:
    long = result([[float(step) for step in range(1, 1051)]], [1.0])
    steps, losses = long.curve(0)
    assert CURVE_POINTS * 0.9 <= len(steps) <= CURVE_POINTS + 1
    assert (steps[0], steps[-1]) == (1, 1050)
    assert losses == [float(step) for step in steps]


def test_a_diverged_curve_ends_before_the_divergence() -> None:
    assert result([[4.0, 3.0, math.nan]], [math.nan]).curve(0) == ([1, 2], [4.0, 3.0])
    assert result([[math.nan, math.nan]], [math.nan]).curve(0) == ([], [])
