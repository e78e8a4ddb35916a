"""Across widths: exponent and interval, with and without scatter between widths."""

from __future__ import annotations

import numpy as np
import pytest

from mutransfer_cli.fit.scaling import Law, fit_law

U = np.array([5.0, 5.585, 6.0, 6.585, 7.0])


def law(exponent: float, scatter: float, error: float, random: np.random.Generator) -> Law:
    optimum = -5.0 + exponent * U + random.normal(0, np.hypot(scatter, error), U.size)
    return fit_law(U, optimum, np.full(U.size, error), freedom=20.0, level=0.95)


def test_a_line_without_noise_is_found_and_never_called_exact() -> None:
    found = fit_law(U, -1.0 - 0.7 * U, np.full(5, 0.1), freedom=20.0, level=0.95)
    assert found.exponent == pytest.approx(-0.7)
    assert found.scatter == 0
    slope_error = 0.1 / np.sqrt(((U - U.mean()) ** 2).sum())
    assert found.half_width == pytest.approx(2.086 * slope_error, rel=1e-3)


@pytest.mark.parametrize("scatter", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("exponent", [-1.0, 0.0])
def test_the_interval_holds_with_scatter_too(exponent: float, scatter: float) -> None:
    random = np.random.default_rng(1)
    laws = [law(exponent, scatter, 0.05, random) for _ in range(600)]
    held = [abs(found.exponent - exponent) <= found.half_width for found in laws]
    assert np.mean(held) >= 0.93
    assert np.mean([found.exponent for found in laws]) == pytest.approx(exponent, abs=0.02)


def test_scatter_is_found_where_it_is() -> None:
    random = np.random.default_rng(2)
    found = [law(0.0, 0.3, 0.05, random).scatter for _ in range(300)]
    assert np.median(found) == pytest.approx(0.28, abs=0.06)
    assert np.median([law(0.0, 0.0, 0.05, random).scatter for _ in range(300)]) < 0.03


def test_sure_optima_weigh_more() -> None:
    optimum = -5.0 + 0.0 * U
    optimum[-1] += 1.0
    error = np.array([0.01, 0.01, 0.01, 0.01, 3.0])
    assert abs(fit_law(U, optimum, error, 20.0, 0.95).exponent) < 0.01


def test_the_value_at_the_centre_is_the_weighted_mean() -> None:
    found = fit_law(U, -1.0 - 0.5 * U, np.full(5, 0.1), freedom=20.0, level=0.95)
    assert found.centre == pytest.approx(U.mean())
    assert found.value == pytest.approx(-1.0 - 0.5 * U.mean())
