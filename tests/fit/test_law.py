"""The law across widths: exponent and interval, with and without scatter between widths."""

from __future__ import annotations

import numpy as np
import pytest

from mutransfer_cli.fit.arrays import Array
from mutransfer_cli.fit.law import Laws, fit_laws

U = np.array([5.0, 5.585, 6.0, 6.585, 7.0])


def independent(error: Array, sweeps: int = 1) -> Array:
    return np.broadcast_to(np.diag(error**2), (sweeps, error.size, error.size))


def laws(exponent: float, scatter: float, error: float, sweeps: int) -> Laws:
    random = np.random.default_rng(1)
    y = -5 + exponent * U + random.normal(0, np.hypot(scatter, error), (sweeps, U.size))
    covariance = independent(np.full(U.size, error), sweeps)
    return fit_laws(np.tile(U, (sweeps, 1)), y, covariance, np.full(sweeps, 20.0))


def one(y: Array, error: Array) -> Laws:
    return fit_laws(U[None], y[None], independent(error), np.array([20.0]))


def test_a_line_without_noise_is_found_and_never_called_exact() -> None:
    found = one(-1.0 - 0.7 * U, np.full(5, 0.1))
    assert found.exponent[0] == pytest.approx(-0.7)
    assert found.scatter[0] == 0
    slope_error = 0.1 / np.sqrt(((U - U.mean()) ** 2).sum())
    assert found.half_width[0] == pytest.approx(2.086 * slope_error, rel=1e-3)
    assert found.law_half_width[0] < 1e-6


@pytest.mark.parametrize("scatter", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("exponent", [-1.0, 0.0])
def test_the_interval_holds_with_scatter_too(exponent: float, scatter: float) -> None:
    found = laws(exponent, scatter, 0.05, 1000)
    assert np.mean(np.abs(found.exponent - exponent) <= found.half_width) >= 0.935
    assert found.exponent.mean() == pytest.approx(exponent, abs=0.02)
    if scatter:
        held = np.abs(found.exponent - exponent) <= found.measurement_half_width
        assert held.mean() < 0.8, "an interval without scatter promises too much"


def test_scatter_is_found_where_it_is() -> None:
    assert np.median(laws(0.0, 0.3, 0.05, 500).scatter) == pytest.approx(0.28, abs=0.06)
    assert np.median(laws(0.0, 0.0, 0.05, 500).scatter) < 0.03


def test_sure_optima_weigh_more() -> None:
    y = np.full(5, -5.0)
    y[-1] += 1.0
    assert abs(one(y, np.array([0.01, 0.01, 0.01, 0.01, 3.0])).exponent[0]) < 0.01


def test_an_error_that_all_widths_share_does_not_touch_the_exponent() -> None:
    """A common error of the tilt shifts all optima equally."""
    y = -5 - 0.5 * U
    own = independent(np.full(5, 0.02))
    shared = own + 0.04 * np.ones((5, 5))
    apart, together = (
        fit_laws(U[None], y[None], covariance, np.array([20.0])) for covariance in (own, shared)
    )
    assert together.half_width == pytest.approx(apart.half_width)
    assert together.value_half_width[0] > 5 * apart.value_half_width[0]


def test_the_value_at_the_centre_is_the_weighted_mean() -> None:
    found = one(-1.0 - 0.5 * U, np.full(5, 0.1))
    assert found.centre[0] == pytest.approx(U.mean())
    assert found.value[0] == pytest.approx(-1.0 - 0.5 * U.mean())


@pytest.mark.parametrize("scatter", [0.0, 0.15])
def test_a_future_optimum_lies_where_it_is_predicted(scatter: float) -> None:
    """The future width is three octaves beyond the largest."""
    random = np.random.default_rng(2)
    sweeps, error, target = 2000, 0.03, 10.0
    y = random.normal(0, np.hypot(scatter, error), (sweeps, U.size))
    u = np.tile(U, (sweeps, 1))
    covariance = independent(np.full(U.size, error), sweeps)
    law = fit_laws(u, y, covariance, np.full(sweeps, 50.0))
    predicted = law.value + law.exponent * (target - law.centre)
    half_width = np.hypot(
        law.future_half_width, law.future_per_octave * (target - law.future_centre)
    )
    truth = random.normal(0, scatter, sweeps)
    held = np.mean(np.abs(predicted - truth) <= half_width)
    assert 0.935 <= held <= (0.975 if scatter else 1), "without scatter it may be too wide"
