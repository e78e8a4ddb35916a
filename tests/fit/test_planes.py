"""Quadratic surfaces of known coefficients, and their windows."""

from __future__ import annotations

import numpy as np
import pytest

from mutransfer_cli.fit.arrays import Array
from mutransfer_cli.fit.planes import (
    Planes,
    fit_surfaces,
    median_spacing,
    pool,
    positive_sum,
    prepare,
    settle,
    well_posed,
)

TICKS = np.arange(-3.0, 4.0)


def planes(loss: Array, weight: Array | None = None) -> Planes:
    """One sweep of one width per row of losses, on a grid of octaves."""
    x, y = np.broadcast_arrays(TICKS[:, None], TICKS)
    shape = (1, len(loss), x.size)
    return Planes(
        x=np.broadcast_to(x.ravel(), shape),
        y=np.broadcast_to(y.ravel(), shape),
        loss=loss[None],
        weight=np.ones(shape) if weight is None else weight,
        log2_width=np.arange(5.0, 5 + len(loss))[None],
        away=np.full((*shape, 1), np.nan),
    )


def bowl(
    strong: float, weak: float, angle: float = 45.0, at: tuple[float, float] = (0, 0)
) -> Array:
    """The surface 2 + strong p^2 + weak q^2, with p at an angle to x."""
    x, y = np.broadcast_arrays(TICKS[:, None] - at[0], TICKS - at[1])
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    loss = 2 + strong * (cos * x + sin * y) ** 2 + weak * (cos * y - sin * x) ** 2
    return np.asarray(loss.ravel(), dtype=np.float64)


def test_a_quadratic_gives_back_its_coefficients() -> None:
    grids = prepare(planes(bowl(0.3, 0.1)[None]))
    surfaces = fit_surfaces(grids, np.zeros((1, 1, 2)), np.array([np.pi / 4]), np.array([1e-6]))
    expected = [2, 0, 0, 0.3, 0, 0.1, 0]
    assert surfaces.coefficients[0, 0] == pytest.approx(expected, abs=1e-6)
    assert surfaces.curvature[0] == pytest.approx([0.3, 0, 0.1], abs=1e-6)
    assert surfaces.variance[0] == pytest.approx(0, abs=1e-12)


def test_windows_settle_on_the_optimum_with_p_across() -> None:
    """The strong direction lies 60 degrees from x."""
    surfaces, _ = settle(planes(bowl(0.3, 0.1, angle=60.0, at=(0.5, -0.3))[None]))
    assert surfaces.centre[0, 0] == pytest.approx([0.5, -0.3], abs=1e-3)
    p = surfaces.axes[0, 0]
    assert np.degrees(np.arctan2(p[1], p[0])) == pytest.approx(60, abs=1e-3)


def test_along_a_ridge_the_window_stays_in_the_middle() -> None:
    noise = np.random.default_rng(0).normal(0, 1e-3, (1, TICKS.size**2))
    surfaces, _ = settle(planes(bowl(0.3, 0.0, at=(0.5, 0.5)) + noise))
    x, y = surfaces.centre[0, 0]
    assert x + y == pytest.approx(1, abs=0.02)
    assert x - y == pytest.approx(0, abs=0.02)


def test_degrees_of_freedom_are_the_expected_squares() -> None:
    """The mean is over 300 sweeps of noise alone, with unequal numbers of seeds."""
    random = np.random.default_rng(1)
    seeds = random.integers(1, 4, TICKS.size**2).astype(float)
    noise = random.normal(0, 1, (300, 1, seeds.size)) / np.sqrt(seeds)
    one = planes(bowl(0.3, 0.1)[None], seeds[None, None])
    stack = {name: np.repeat(values, 300, axis=0) for name, values in vars(one).items()}
    grids = prepare(Planes(**stack | {"loss": stack["loss"] + noise}))
    at = (np.zeros((300, 1, 2)), np.full(300, np.pi / 4), np.full(300, 1e-6))
    found = fit_surfaces(grids, *at)
    # the variance is that at the mean number of seeds
    assert found.variance.mean() * seeds.mean() == pytest.approx(1, abs=0.06)


def test_five_cells_make_no_quadratic() -> None:
    few = np.zeros((1, 1, TICKS.size**2))
    few[..., :5] = 1
    surfaces = fit_surfaces(
        prepare(planes(bowl(0.3, 0.1)[None], few)),
        np.zeros((1, 1, 2)),
        np.array([np.pi / 4]),
        np.ones(1),
    )
    assert not surfaces.supported.any()
    assert (surfaces.coefficients == 0).all()


def test_an_axis_has_one_angle() -> None:
    angles = np.radians([45.0, 225.0, -44.0, -46.0, 135.0, 180.0])
    assert np.degrees(positive_sum(angles)) == pytest.approx([45, 45, -44, 134, 135, 0])


def test_the_spacing_is_that_of_distinct_values() -> None:
    xy = np.array([[0, 0], [0, 2], [1, 2], [1, 0], [3, 0], [4, 0]], dtype=float)
    assert median_spacing(xy[None, None])[0, 0] == pytest.approx([1, 2])
    assert median_spacing(np.zeros((1, 1, 3, 2)))[0, 0].tolist() == [1, 1]


def test_widths_pool_with_one_weight_each() -> None:
    """Total variances 1 and 3 give weights 3/4 and 1/4."""
    values = np.array([[[1.0, 10.0], [5.0, 30.0]]])
    covariance = np.array([[np.diag([0.5, 0.5]), np.diag([1.0, 2.0])]])
    mean, variance = pool(values, covariance, np.ones((1, 2), dtype=bool))
    assert mean[0] == pytest.approx([2, 15])
    assert variance[0] == pytest.approx([9 / 16 * 0.5 + 1 / 16, 9 / 16 * 0.5 + 2 / 16])
    alone, _ = pool(values, covariance, np.array([[True, False]]))
    assert alone[0] == pytest.approx([1, 10])


def test_columns_that_repeat_each_other_are_not_well_posed() -> None:
    design = np.stack([np.ones(5), np.arange(5.0), 2 * np.arange(5.0)], axis=1)
    assert not well_posed(design.T @ design)
    assert well_posed(design[:, :2].T @ design[:, :2])
