"""The joint fit of tables, as far as it goes beyond the fit of planes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.joint_coverage import World, simulate
from mutransfer_cli.fit.decay import fit_decay, planes_of
from mutransfer_cli.fit.joint import fit_planes
from mutransfer_cli.fit.planes import Planes


def tables(planes: Planes) -> dict[str, pd.DataFrame]:
    """Turn planes into one table per sweep, with widths 2^log2_width."""
    found = {}
    for g, log2_width in enumerate(planes.log2_width):
        columns = {
            "width": np.repeat((2**log2_width).round().astype(int), planes.x.shape[2]),
            "lr": 2.0 ** planes.x[g].ravel(),
            "weight_decay": 2.0 ** planes.y[g].ravel(),
            "loss": planes.loss[g].ravel(),
        }
        found[str(g)] = pd.DataFrame(columns)
    return found


def simulated(world: World, sweeps: int) -> Planes:
    planes = simulate(world, sweeps, np.random.default_rng(0))
    return Planes(**(vars(planes) | {"log2_width": np.round(planes.log2_width + 0.01)}))


@pytest.mark.parametrize("cubic", [0.0, 0.15])
def test_looking_for_broken_runs_costs_nothing_where_there_are_none(cubic: float) -> None:
    planes = simulated(World(-1.0, 0.5, ratio=0.17, cubic=cubic), 20)
    joint, fits = fit_planes(planes), fit_decay(tables(planes), "lr_coupled")
    found = [fit.lr.exponent for fit in fits.values() if fit.lr and fit.lr.exponent]
    assert len(found) == 20
    for g, exponent in enumerate(found):
        assert exponent.value == pytest.approx(joint.lr.exponent[g], abs=joint.lr.half_width[g])
    kept = np.median([exponent.high - exponent.value for exponent in found])
    assert kept < 1.15 * np.median(joint.lr.half_width)


def test_cells_are_means_over_seeds_and_one_diverged_seed_takes_its_cell_out() -> None:
    (table,) = tables(simulated(World(), 1)).values()
    twice = pd.concat([table.assign(seed=0), table.assign(seed=1, loss=table["loss"] + 0.2)])
    planes = planes_of([twice], "loss")
    assert set(np.unique(planes.weight)) <= {0.0, 2.0}
    there = planes.weight > 0
    lowest = planes.loss[there].min()
    assert lowest == pytest.approx(table["loss"].min() + 0.1)
    gone = twice.assign(loss=twice["loss"].mask((twice["lr"] == 1) & (twice["seed"] == 1)))
    fewer = planes_of([gone], "loss")
    assert not (fewer.x[fewer.weight > 0] == 0).any(), "log2 of lr 1"


def test_widths_of_unequal_grids_are_stacked() -> None:
    (one, other) = tables(simulated(World(-1.0, 0.5), 2)).values()
    shorter = other[other["weight_decay"] < 4]
    together = fit_decay({"a": one, "b": shorter}, "lr_coupled")
    alone = fit_decay({"b": shorter}, "lr_coupled")["b"]
    assert together["b"].lr is not None
    assert alone.lr is not None
    assert together["b"].lr.exponent is not None
    assert alone.lr.exponent is not None
    assert together["b"].lr.exponent.value == pytest.approx(alone.lr.exponent.value)
    assert together["b"].best == pytest.approx(alone.best)


def test_the_best_run_without_decay_is_held_against_the_best_with_it() -> None:
    (table,) = tables(simulated(World(noise=0.0), 1)).values()
    zero = pd.DataFrame({"width": 128, "lr": [0.5, 1.0], "weight_decay": 0.0, "loss": [9.0, 8.0]})
    fit = fit_decay({"": pd.concat([table, zero])}, "lr_coupled")[""]
    (best,) = fit.decay.without_decay.values()
    assert (best.lr, best.loss) == (1.0, 8.0)
    assert best.excess == pytest.approx(8 - table.loc[table["width"] == 128, "loss"].min())


def test_seeds_that_move_whole_surfaces_are_no_independent_measurements() -> None:
    """Three seeds whose optima differ by a fifth of an octave in lr."""
    random, held = np.random.default_rng(3), []
    groups = {}
    for name, table in tables(simulated(World(0.0, 0.0, ratio=0.5, noise=0.0), 20)).items():
        x, y = np.log2(table["lr"]), np.log2(table["weight_decay"])
        seeds = []
        for seed in range(3):
            shift = table["width"].map({w: random.normal(0, 0.3) for w in table["width"].unique()})
            noise = random.normal(0, 0.001, len(table))
            loss = 3 + 0.02 * ((x - shift) ** 2 + y**2) + noise
            seeds.append(table.assign(seed=seed, loss=loss))
        groups[name] = pd.concat(seeds)
    for fit in fit_decay(groups, "lr_coupled").values():
        assert fit.lr is not None
        held += [at.octaves[0] <= 0 <= at.octaves[2] for at in fit.lr.usable.values()]
    assert len(held) > 60
    assert np.mean(held) >= 0.85, "without the seeds' shifts one in ten"
