"""Forms beside the straight line: a bend, and a drift that fades with width."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mutransfer_cli.fit.arrays import Array
from mutransfer_cli.fit.law import FormFits, fit_forms, future_squares, paule_mandel

U = np.array([5.0, 5.585, 6.0, 7.0, 8.0, 9.0])
X = U - U.mean()
Y = np.array([-5.0, -5.3, -5.2, -5.9, -6.1, -7.0])
# unequal errors, partly shared by all widths
COVARIANCE = np.diag(np.array([0.02, 0.03, 0.1, 0.2, 0.05, 0.1]) ** 2) + 0.01**2


def one(y: Array, u: Array = U, covariance: Array = COVARIANCE, scatter: float = 0.1) -> FormFits:
    return fit_forms(u[None], y[None], covariance[None], np.array([scatter]))


def worlds(
    widths: int, scatter: float, bend: float = 0.0, drift: float = 0.0
) -> tuple[FormFits, int]:
    """600 sweeps with the given scatter about their lines."""
    u = np.tile(np.arange(5.0, 5 + widths), (600, 1))
    x = u - u.mean(1, keepdims=True)
    noise = np.random.default_rng(5).normal(0, np.hypot(scatter, 0.03), u.shape)
    y = -5 + bend * x**2 + drift * 2.0**-x + noise
    covariance = np.broadcast_to(0.03**2 * np.eye(widths), (600, widths, widths))
    return fit_forms(u, y, covariance, paule_mandel(u, y, covariance)), widths


def told(estimate: Array, error: Array, freedom: int) -> float:
    return float(np.mean(np.abs(estimate) > stats.t.ppf(0.975, freedom) * error))


def test_a_curve_gives_its_bend() -> None:
    found = one(-5 - 0.5 * X + 0.06 * X**2)
    assert found.centre[0] == pytest.approx(U.mean())
    assert found.value[0] == pytest.approx(-5)
    assert found.exponent[0] == pytest.approx(-0.5)
    assert found.bend[0] == pytest.approx(0.06)


def test_a_drift_that_fades_gives_its_limit() -> None:
    """The optimum is log2 lr = -6 - 40 / width."""
    found = one(-6 - 40 / 2**U)
    assert found.limit[0] == pytest.approx(-6)
    at_4096 = found.limit + found.drift * 2 ** (found.centre - 12)
    assert at_4096[0] == pytest.approx(-6 - 40 / 4096)


def test_widths_are_weighed_by_all_their_errors() -> None:
    """The reference is least squares of whitened optima."""
    found = one(Y)
    whiten = np.linalg.inv(np.linalg.cholesky(COVARIANCE + 0.1**2 * np.eye(6)))
    curved, *_ = np.linalg.lstsq(whiten @ np.stack([X**0, X, X**2], axis=1), whiten @ Y)
    assert np.stack([found.value, found.exponent, found.bend]).ravel() == pytest.approx(curved)
    fading, *_ = np.linalg.lstsq(whiten @ np.stack([X**0, 2**-X], axis=1), whiten @ Y)
    assert np.stack([found.limit, found.drift]).ravel() == pytest.approx(fading)


def test_errors_are_those_of_plain_regression_where_scatter_rules() -> None:
    found = one(Y, covariance=1e-9 * np.eye(6))
    _, curved = np.polyfit(X, Y, 2, cov=True)
    assert found.bend_error[0] == pytest.approx(np.sqrt(curved[0, 0]))
    fading = stats.linregress(2.0**-X, Y)
    assert found.drift_error[0] == pytest.approx(fading.stderr)


def test_errors_are_never_below_those_of_the_measurement() -> None:
    found = one(0.06 * X**2, covariance=0.02**2 * np.eye(6))
    _, unscaled = np.polyfit(X, 0 * X, 2, cov="unscaled")
    assert found.bend_error[0] == pytest.approx(0.02 * np.sqrt(unscaled[0, 0]))


@pytest.mark.parametrize("widths", [5, 7])
def test_a_straight_line_is_seldom_called_bent(widths: int) -> None:
    found, k = worlds(widths, scatter=0.1)
    assert 0.02 <= told(found.bend, found.bend_error, k - 3) <= 0.065
    assert 0.025 <= told(found.drift, found.drift_error, k - 2) <= 0.065
    without, _ = worlds(widths, scatter=0.0)
    assert told(without.bend, without.bend_error, k - 3) <= 0.01


def test_two_looks_seldom_call_a_straight_line_bent() -> None:
    for widths in (5, 7, 9):
        found, k = worlds(widths, scatter=0.1)
        by_bend = np.abs(found.bend) > stats.t.ppf(0.975, k - 3) * found.bend_error
        by_fade = np.abs(found.fade) > found.fade_half_width
        assert np.mean(by_bend | by_fade) <= 0.065


def test_a_drift_that_fades_is_told_from_a_line_by_fewer_widths_than_a_bend() -> None:
    """The optimum is log2 lr = -5 + 64 / width at widths 64 to 1024."""
    found, k = worlds(5, scatter=0.0, drift=0.25)
    assert np.mean(np.abs(found.fade) > found.fade_half_width) >= 0.85
    assert told(found.bend, found.bend_error, k - 3) < 0.8
    sloped = one(-5 - 0.5 * X)
    assert sloped.fade[0] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("terms", "scatter"), [(2, 0.3), (3, 0.3), (3, 0.001)])
def test_one_future_optimum_lies_where_a_form_predicts_it(terms: int, scatter: float) -> None:
    """A future optimum at s = 5 is 1, 5, 25 times the coefficients, with an error of its own."""
    y = Y + np.random.default_rng(1).normal(0, scatter, 6)
    squares, residual = future_squares(X[None], terms, y[None], 0.05**2 * np.eye(6)[None])
    z, at = np.vander(X, terms), np.vander([5.0], terms)[0]
    inverse = np.linalg.inv(z.T @ z)
    coefficients = inverse @ z.T @ y
    assert residual[0] == pytest.approx(np.sum((y - z @ coefficients) ** 2) / (6 - terms))
    line, own = max(residual[0], 0.05**2), max(residual[0] - 0.05**2, 0)
    expected = stats.t.ppf(0.975, 6 - terms) ** 2 * (line * at @ inverse @ at + own)
    assert np.polyval(squares[0][::-1], 5.0) == pytest.approx(expected)


def test_a_saturating_form_that_fits_worse_than_the_line_is_left_out() -> None:
    assert np.isnan(one(-5 - 0.5 * X).saturating_squares).all()
    assert np.isfinite(one(-5 + 0.5 * 2.0**-X).saturating_squares).all()


def test_a_bend_is_told_although_the_lines_scatter_contains_it() -> None:
    bent, k = worlds(6, scatter=0.1, bend=0.1)
    assert told(bent.bend, bent.bend_error, k - 3) >= 0.9
    assert bent.bend.mean() == pytest.approx(0.1, abs=0.003)
    fading, k = worlds(5, scatter=0.1, drift=0.2)
    assert told(fading.drift, fading.drift_error, k - 2) >= 0.9


def test_origins_do_not_matter() -> None:
    plain, moved = one(Y), one(Y - 2, U + 3)
    away = {"centre": 3, "value": -2, "limit": -2}
    for name, found in vars(moved).items():
        expected = pytest.approx(vars(plain)[name] + away.get(name, 0), nan_ok=True)
        assert found == expected, name


def test_four_widths_cannot_choose_a_form() -> None:
    with pytest.raises(AssertionError):
        one(Y[:4], U[:4], COVARIANCE[:4, :4])
