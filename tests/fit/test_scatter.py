"""The exponent under an assumed bound on the scatter between widths."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from mutransfer_cli.fit.arrays import LEVEL, Array
from mutransfer_cli.fit.law import Laws, fit_laws
from mutransfer_cli.fit.scatter import assume_scatter

BOUND, ERROR = 0.4, 0.025
U = np.array([5.0, 5.585, 6.0, 7.0, 9.0])
Y = np.array([-5.05, -5.2, -5.7, -5.8, -7.2])
# unequal errors, partly shared by all widths
COVARIANCE = np.diag(np.array([0.02, 0.03, 0.1, 0.2, 0.3]) ** 2) + 0.01**2


def one(
    u: Array = U,
    y: Array = Y,
    covariance: Array = COVARIANCE,
    freedom: float = np.inf,
    bound: float = BOUND,
) -> Laws:
    known = np.array([freedom])
    return assume_scatter(u[None], y[None], covariance[None], known, bound)


def worlds(
    random: np.random.Generator, widths: int, scatter: float
) -> tuple[Array, Array, Array, Array]:
    """400 sweeps of level and exponent 0, with widths one doubling apart."""
    u = np.tile(np.arange(5.0, 5 + widths), (400, 1))
    y = random.normal(0, math.hypot(scatter, ERROR), (400, widths))
    covariance = np.broadcast_to(ERROR**2 * np.eye(widths), (400, widths, widths))
    return u, y, covariance, np.full(400, np.inf)


@pytest.mark.parametrize("size", [1.0, 0.01])
def test_it_agrees_with_an_integral_point_by_point(size: float) -> None:
    found = one(y=size * Y, covariance=size**2 * COVARIANCE)
    root = np.linspace(0, math.sqrt(3 * BOUND), 8001)
    scatter = root**2
    z = np.stack([np.ones_like(U), U - found.centre], axis=1)
    inverse = np.linalg.inv(size**2 * COVARIANCE + scatter[:, None, None] ** 2 * np.eye(U.size))
    lines = np.linalg.inv(z.T @ inverse @ z)  # covariance of the level at the centre and the slope
    means = lines @ (z.T @ inverse @ (size * Y))[..., None]
    residual = size * Y - means[..., 0] @ z.T
    square = np.einsum("ti,tij,tj->t", residual, inverse, residual)
    weight = np.sqrt(np.linalg.det(inverse) * np.linalg.det(lines)) * np.exp(-square / 2)
    weight *= stats.halfnorm.pdf(scatter, scale=BOUND / 2) * root
    weight /= weight.sum()

    level, slope = means[:, 0, 0], means[:, 1, 0]
    assert found.exponent[0] == pytest.approx(weight @ slope, abs=2e-6)
    assert found.value[0] == pytest.approx(weight @ level, abs=2e-6)
    assert found.scatter[0] == pytest.approx(weight @ scatter, rel=2e-3)
    for middle, half_width, mean, variance in [
        (found.exponent, found.half_width, slope, lines[:, 1, 1]),
        (found.value, found.value_half_width, level, lines[:, 0, 0]),
        (found.value, found.future_half_width, level, lines[:, 0, 0] + scatter**2),
    ]:
        normal = stats.norm(mean, np.sqrt(variance))
        held = normal.cdf(middle + half_width) - normal.cdf(middle - half_width)
        assert weight @ held == pytest.approx(LEVEL, abs=2e-4)
    together = lines[:, 0, 1] + (slope - weight @ slope) * (level - weight @ level)
    assert weight @ together == pytest.approx(0, abs=1e-6 * size**2), (
        "level and slope are uncorrelated"
    )


@pytest.mark.parametrize(
    ("widths", "scatter", "least", "most", "half_width"),
    [
        (4, 0.0, 0.99, 1, 0.066),
        (4, 0.1, 0.95, 0.995, 0.142),
        (4, 0.2, 0.90, 0.975, 0.201),
        (3, 0.0, 0.99, 1, 0.187),
        (3, 0.1, 0.985, 1, 0.25),
        (3, 0.2, 0.90, 0.975, 0.31),
    ],
)
def test_the_interval_holds_up_to_the_bound(
    widths: int, scatter: float, least: float, most: float, half_width: float
) -> None:
    """The interval over-covers below half the bound; the future optimum is three octaves ahead."""
    random = np.random.default_rng(3)
    found = assume_scatter(*worlds(random, widths, scatter), BOUND)
    ahead = 7.0 + widths - found.future_centre
    future = found.value + found.exponent * ahead - random.normal(0, scatter, ahead.size)
    future_half_width = np.hypot(found.future_half_width, found.future_per_octave * ahead)
    assert least <= np.mean(np.abs(found.exponent) <= found.half_width) <= most
    assert least <= np.mean(np.abs(found.value) <= found.value_half_width) <= most
    assert least <= np.mean(np.abs(future) <= future_half_width) <= most
    assert np.median(found.half_width) == pytest.approx(half_width, rel=0.06)


def test_three_widths_are_worth_more_with_the_assumption() -> None:
    at = worlds(np.random.default_rng(4), 3, 0.1)
    learned = np.median(fit_laws(*at).half_width)
    assert np.median(assume_scatter(*at, BOUND).half_width) < learned / 2


def test_hardly_any_scatter_leaves_the_measurement() -> None:
    found = one(bound=1e-4)
    assert found.half_width == pytest.approx(found.measurement_half_width, rel=1e-3)
    few = one(bound=1e-4, freedom=4)
    ratio = stats.t.ppf(0.975, 4) / stats.norm.ppf(0.975)
    assert few.half_width == pytest.approx(ratio * found.half_width, rel=1e-3)
    assert few.value_half_width == pytest.approx(ratio * found.value_half_width, rel=1e-3)


def test_a_line_without_noise_is_found() -> None:
    found = one(y=-3 - 0.7 * U, covariance=np.zeros((5, 5)))
    assert found.exponent[0] == pytest.approx(-0.7)
    assert found.value[0] == pytest.approx(-3 - 0.7 * found.centre[0])
    assert 0 < found.half_width[0] < 1e-4


def test_units_and_origins_do_not_matter() -> None:
    plain, moved = one(), one(u=U + 3, y=Y - 2)
    origins = {"centre": plain.centre + 3, "value": plain.value - 2}
    expected = replace(plain, **origins, future_centre=plain.centre + 3)
    assert vars(moved) == {name: pytest.approx(x, rel=1e-6) for name, x in vars(expected).items()}
    doubled = one(y=2 * Y, covariance=4 * COVARIANCE, bound=2 * BOUND)
    for name in ("exponent", "half_width", "value_half_width", "scatter", "future_half_width"):
        assert getattr(doubled, name) == pytest.approx(2 * getattr(plain, name), rel=1e-6)
