"""Broken runs above a bowl, and single bad runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mutransfer_cli.fit.arrays import Array
from mutransfer_cli.fit.bad_runs import broken, settle
from mutransfer_cli.fit.cells import Cells, cells_of
from mutransfer_cli.fit.exponent import fit_exponents
from tests.fit.worlds import World, kink, plateau, quartic, simulate, tilted

GRID = np.arange(-10.0, -1.0)


def cells(losses_C: Array, x_C: Array = GRID) -> Cells:
    rows = pd.DataFrame({"width": 64, "lr": 2.0**x_C, "loss": losses_C})
    return cells_of([rows], "lr", "loss")


def bowl(optimum: float = -6.0, x_C: Array = GRID) -> Array:
    return np.asarray(0.5 * (x_C - optimum) ** 2)


def table(optima: dict[int, float], noise: float = 0.0, seeds: int = 1) -> pd.DataFrame:
    """Bowls of curvature 0.012 on half-octave grids about 2^-7."""
    random = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {"width": w, "lr": 2.0**x, "seed": s, "loss": 3 + 0.012 * (x - optimum) ** 2 + error}
            for w, optimum in optima.items()
            for x in np.arange(-10.0, -3.5, 0.5)
            for s, error in enumerate(random.normal(0, noise, seeds))
        ]
    )


def test_cells_from_which_on_all_are_broken_are_left_out() -> None:
    losses = bowl()
    losses[-2:] = [60.0, 9.0]
    found = broken(cells(losses), np.array([0.01]))
    assert not found.any(), "a single one below a healthy one is no cliff"
    losses[-2:] = [60.0, 50.0]
    found = broken(cells(losses), np.array([0.01]))
    assert GRID[found[0, 0]].tolist() == [-3, -2], "it and all above it"
    assert not broken(cells(losses), np.array([10.0])).any(), "within the noise"


def test_nothing_is_broken_where_the_lowest_cell_is_the_first() -> None:
    rising = np.array([float(2**x) for x in range(6)])
    assert not broken(cells(rising, np.arange(-6.0, 0.0, dtype=np.float64)), np.array([0.01])).any()


@pytest.mark.parametrize("spacing", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("tilt", [0.4, 0.8, 1.5])
def test_a_steep_bowl_is_not_broken(spacing: float, tilt: float) -> None:
    world = World(cells=9 if spacing < 2 else 5, spacing=spacing, bowl=tilted(tilt))
    found = simulate(world, 100, seed=0).cells
    assert broken(found, np.full(100, 0.0015)).mean() < 0.01


@pytest.mark.parametrize("above_first", [0.1, 0.3, 0.5, 0.57, 0.64, 0.9, 1.4])
@pytest.mark.parametrize("spacing", [0.5, 1.0])
def test_a_clean_bowl_near_the_lower_end_is_whole(above_first: float, spacing: float) -> None:
    """An optimum so many cells above the lowest rate, without noise."""
    x = np.asarray(-8 + spacing * np.arange(9.0), dtype=np.float64)
    found = cells(0.013 * (x + 8 - above_first * spacing) ** 2, x)
    assert not broken(found, np.array([1e-9])).any()


def test_a_cliff_is_seen_above_bowls_of_any_shape() -> None:
    """All runs more than 2 octaves above the optimum have a loss of 0.5 to 3 nats more."""
    for shape in (tilted(0.0001), tilted(0.8), plateau):
        world = World(cliff=2.0, bowl=shape)
        sweeps = simulate(world, 100, seed=1)
        cliff = sweeps.cells.x > sweeps.optimum[..., None] + 2
        found = broken(sweeps.cells, np.full(100, 0.0015))
        assert found[cliff].mean() > 0.9
        assert found[~cliff].mean() < 0.01


@pytest.mark.parametrize("by", [-0.1, 0.1])
@pytest.mark.parametrize("seeds", [1, 3])
def test_a_bad_run_is_named_and_left_out(by: float, seeds: int) -> None:
    """One run of width 128, 2 octaves below the optimum and 0.1 nats off."""
    rows = table({64: -7.0, 128: -7.0, 256: -7.0, 512: -7.0}, 0.0025, seeds)
    bad = (rows["width"] == 128) & (rows["lr"] == 2**-9) & (rows["seed"] == seeds - 1)
    fit = fit_exponents(rows.assign(loss=rows["loss"] + by * bad))
    (run,) = fit.left_out
    assert (run.reason, run.width, run.value) == ("bad_run", 128, 2**-9)
    assert run.seed == str(seeds - 1)
    assert run.excess == pytest.approx(by, abs=0.01)
    assert "width 128, lr 0.00195" in fit.warnings["bad_runs"]
    assert fit.exponent is not None
    clean = fit_exponents(rows[~bad]).exponent
    assert vars(fit.exponent) == pytest.approx(vars(clean))


def test_a_cell_whose_runs_agree_is_no_bad_run() -> None:
    """All three seeds say that the loss is 0.1 higher there: the bowl has that shape."""
    rows = table({64: -7.0, 128: -7.0, 256: -7.0, 512: -7.0}, 0.0025, seeds=3)
    bump = (rows["width"] == 128) & (rows["lr"] == 2**-8)
    assert not fit_exponents(rows.assign(loss=rows["loss"] + 0.1 * bump)).left_out


def test_broken_runs_are_named() -> None:
    rows = table({64: -7.0, 128: -7.0, 256: -7.0}, 0.0025)
    cliff = (rows["width"] == 64) & (rows["lr"] > 2**-5.1)
    fit = fit_exponents(rows.assign(loss=rows["loss"] + 2 * cliff))
    assert {(run.reason, run.width) for run in fit.left_out} == {("broken", 64)}
    assert [run.value for run in fit.left_out] == [2**-5, 2**-4.5, 2**-4]
    assert "width 64 from lr 0.0312 up (2" in fit.warnings["broken_runs"]


@pytest.mark.parametrize(
    "world",
    [World(), World(seeds=1), World(bowl=quartic), World(cells=5, spacing=2.0, seeds=2)],
    ids=["clean", "one seed", "quartic", "5 rates"],
)
def test_healthy_runs_are_fitted(world: World) -> None:
    cells, _, _ = simulate(world, 200, seed=2).cells.normalised()
    settled, bad = settle(cells)
    assert bad.sum() <= 2
    assert settled.cells.count.sum() >= 0.98 * cells.count.sum()


def test_cells_stay_as_they_were() -> None:
    """Two fits of the same cells agree, although bowls like a V make the first doubt high cells."""
    cells, _, _ = simulate(World(bowl=kink), 20, seed=3).cells.normalised()
    first, _ = settle(cells)
    assert (cells.trust == 1).all()
    assert (first.cells.trust < 1).any()
    again, _ = settle(cells)
    np.testing.assert_array_equal(again.bowls.optimum, first.bowls.optimum)
