"""Intervals have the coverage that they promise, over a few hundred simulated sweeps of each kind.

`make bench-fit` runs the same with 2,000 sweeps of each kind and prints the table.
"""

from __future__ import annotations

import numpy as np
import pytest

from mutransfer_cli.fit.exponent import fit_sweeps
from mutransfer_cli.fit.exponents import Axis
from tests.fit.worlds import Sweeps, World, simulate

SWEEPS = 400
# a true coverage of 95% falls below this in one of a thousand draws of 400
LEAST = 0.915


def errors(fits: list[Axis], sweeps: Sweeps) -> tuple[np.ndarray, np.ndarray]:
    """Errors and half-widths of the exponent, for the sweeps that have one."""
    pairs = [
        (fit.exponent.value - truth, fit.exponent.high - fit.exponent.value)
        for fit, truth in zip(fits, sweeps.exponent, strict=True)
        if fit.exponent is not None
    ]
    error, half_width = np.array(pairs).T
    return error, half_width


@pytest.mark.parametrize(
    ("world", "widest"),
    [
        (World(), 0.05),
        (World(noise=0.005), 0.09),
        (World(cubic=0.15), 0.06),
        (World(off_centre=1.0), 0.05),
        (World(diverged=0.2), 0.06),
        (World(widths=3), 0.20),
        (World(scatter=0.1), 0.20),
        (World(scatter=0.2), 0.40),
        (World(level=0.01, shift=0.1), 0.2),
        (World(curvature_exponent=-0.4), 0.1),
        (World(steeper=2.0), 0.1),
        (World(cliff=1.5), 0.1),
    ],
    ids=str,
)
def test_the_interval_of_the_exponent_holds(world: World, widest: float) -> None:
    sweeps = simulate(world, SWEEPS, seed=7)
    fits = fit_sweeps(sweeps.cells, "lr")
    error, half_width = errors(fits, sweeps)
    assert error.size >= 0.99 * SWEEPS
    assert np.mean(np.abs(error) <= half_width) >= LEAST
    assert np.median(half_width) <= widest
    assert abs(error.mean()) <= 3 * error.std() / np.sqrt(error.size) + 0.001


def test_the_interval_of_one_optimum_holds() -> None:
    """The sweeps have one seed, a curvature of about 0.014, and a half-octave grid."""
    sweeps = simulate(World(seeds=1), SWEEPS, seed=8)
    held, offs = [], []
    for fit, truths in zip(fit_sweeps(sweeps.cells, "lr"), sweeps.optimum, strict=True):
        for bowl, truth in zip(fit.optimum.values(), truths, strict=True):
            assert bowl.status == "ok"
            low, at, high = bowl.octaves
            held.append(low <= truth <= high)
            offs.append(at - truth)
    assert np.mean(held) >= 0.94
    assert np.std(offs) <= 0.08
    assert abs(np.mean(offs)) <= 0.05


@pytest.mark.parametrize("seeds", [1, 3])
def test_an_optimum_beyond_the_grid_is_never_accepted(seeds: int) -> None:
    sweeps = simulate(World(beyond=0.75, seeds=seeds), SWEEPS, seed=9)
    bowls = [bowl for fit in fit_sweeps(sweeps.cells, "lr") for bowl in fit.optimum.values()]
    assert np.mean([bowl.status == "ok" for bowl in bowls]) <= 0.005
    assert np.mean([(bowl.status, bowl.side) == ("not_bracketed", "high") for bowl in bowls]) > 0.98


def test_seeds_that_move_whole_bowls_are_not_taken_for_many_measurements() -> None:
    """Common random numbers give all cells of a seed the same level and optimum."""
    alike = simulate(World(level=0.01, shift=0.1), 50, seed=3)
    apart = simulate(World(level=0.01), 50, seed=3)
    wide, narrow = (
        np.median(
            [
                fit.measurement_interval.high - fit.measurement_interval.value
                for fit in fit_sweeps(s.cells, "lr")
                if fit.measurement_interval
            ]
        )
        for s in (alike, apart)
    )
    assert wide > 1.5 * narrow


def test_drifting_steepness_raises_an_alarm() -> None:
    """No interval covers this bias, so it is reported instead."""
    drifting = fit_sweeps(simulate(World(drift=1 / 3), 200, seed=4).cells, "lr")
    steady = fit_sweeps(simulate(World(), 200, seed=4).cells, "lr")
    alarms = [
        np.mean(["shape_drifts" in fit.warnings for fit in fits]) for fits in (drifting, steady)
    ]
    assert alarms[0] > 0.2
    assert alarms[1] < 0.03


def test_a_sweep_does_not_know_of_its_neighbours_in_the_stack() -> None:
    sweeps = simulate(World(cubic=0.1), 5, seed=5)
    together = fit_sweeps(sweeps.cells, "lr")
    alone = simulate(World(cubic=0.1), 5, seed=5).cells
    for index, fit in enumerate(together):
        one = slice(index, index + 1)
        cells = type(alone)(**{key: value[one] for key, value in vars(alone).items()})
        (one_fit,) = fit_sweeps(cells, "lr")
        assert one_fit.exponent is not None
        assert fit.exponent is not None
        assert vars(one_fit.exponent) == pytest.approx(vars(fit.exponent), rel=1e-9)
