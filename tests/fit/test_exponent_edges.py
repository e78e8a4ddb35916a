"""Optima at, next to and outside an end of the grid: 200 simulated sweeps of each kind.

`python -m benchmarks.fit_edges` runs more worlds with 2,000 sweeps each and prints the table.
"""

from __future__ import annotations

import numpy as np
import pytest

from mutransfer_cli.fit.exponent import fit_sweeps
from mutransfer_cli.fit.optimum import Side
from tests.fit.worlds import World, simulate

SWEEPS = 200
# a true rate of 0.5% exceeds this in one of a thousand draws of 800 widths
MOST = 0.0138
LAST_CELL: dict[Side, int] = {"low": 0, "high": World.cells - 1}
ASKED: dict[Side, str] = {"low": "add lower values of lr", "high": "add higher values of lr"}
ENDS = list(ASKED)


@pytest.mark.parametrize("end", ENDS)
def test_an_optimum_outside_the_grid_is_not_accepted(end: Side) -> None:
    world = World(beyond=0.5, end=end, seeds=1, noise=0.005)
    fits = fit_sweeps(simulate(world, SWEEPS, seed=11).cells, "lr")
    found = [(bowl.status, bowl.side) for fit in fits for bowl in fit.optimum.values()]
    assert np.mean([status == "ok" for status, _ in found]) <= MOST
    assert np.mean([one == ("not_bracketed", end) for one in found]) >= 0.97
    assert not any(fit.exponent for fit in fits)
    assert all(ASKED[end] in fit.sentence for fit in fits)


@pytest.mark.parametrize("end", ENDS)
def test_identical_edge_minima_are_refused_with_the_right_side(end: Side) -> None:
    """Every width has its lowest loss at the same end of one grid."""
    sweeps = simulate(World(beyond=2.0, end=end, one_grid=True), SWEEPS, seed=12)
    assert np.all(sweeps.cells.best == LAST_CELL[end])
    assert np.ptp(sweeps.cells.x[..., LAST_CELL[end]], axis=1).max() == 0
    for fit in fit_sweeps(sweeps.cells, "lr"):
        assert fit.exponent is None
        found = {(bowl.status, bowl.side) for bowl in fit.optimum.values()}
        assert found == {("not_bracketed", end)}
        widths = ", ".join(map(str, fit.optimum))
        assert f"width {widths}: the optimum lies at the {end} end, {ASKED[end]}" in fit.sentence


@pytest.mark.parametrize("end", ENDS)
def test_an_optimum_one_octave_inside_is_accepted_and_held(end: Side) -> None:
    sweeps = simulate(World(beyond=-1.0, end=end), SWEEPS, seed=13)
    fits = fit_sweeps(sweeps.cells, "lr")
    held = [
        bowl.status == "ok" and bowl.octaves[0] <= truth <= bowl.octaves[2]
        for fit, truths in zip(fits, sweeps.optimum, strict=True)
        for bowl, truth in zip(fit.optimum.values(), truths, strict=True)
    ]
    assert np.mean(held) >= 0.94


def test_losses_without_curvature_have_no_optimum() -> None:
    world = World(curvature=(0.0, 0.0), seeds=1, noise=0.005)
    fits = fit_sweeps(simulate(world, SWEEPS, seed=14).cells, "lr")
    accepted = np.array([[bowl.status == "ok" for bowl in fit.optimum.values()] for fit in fits])
    assert accepted.mean() <= 0.05
    assert not accepted.all(1).any()


def test_broken_runs_above_a_grid_that_starts_too_high_make_no_optimum() -> None:
    """Three healthy cells are followed by losses of any size, and the lowest cell is the first."""
    sweeps = simulate(World(beyond=0.5, end="low", cliff=1.5), SWEEPS, seed=15)
    assert np.all(sweeps.cells.best == 0)
    fits = fit_sweeps(sweeps.cells, "lr")
    assert not any(bowl.status == "ok" for fit in fits for bowl in fit.optimum.values())
