from __future__ import annotations

import math

import pytest
import torch

from mutransfer_cli.train.loop import CURVE_POINTS, TrialResult


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
