"""Cells made from tables, their noise, and broken runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mutransfer_cli.fit.cells import FAR, broken, cells_of, first_noise
from tests.fit.worlds import World, simulate


def table(losses: dict[float, list[float]], width: int = 64) -> pd.DataFrame:
    """A table of losses by seed and log2 of the rate."""
    rows = [
        {"width": width, "lr": 2.0**x, "seed": seed, "loss": loss}
        for x, row in losses.items()
        for seed, loss in enumerate(row)
    ]
    return pd.DataFrame(rows)


BOWL = {-8.0: [4.0, 4.2], -7.0: [3.0, 3.2], -6.0: [2.0, 2.2], -5.0: [3.0, 3.2], -4.0: [4.0, 4.2]}


def test_cells_are_means_over_seeds_in_ascending_order() -> None:
    shuffled = table(BOWL).sample(frac=1, random_state=0)
    cells = cells_of([shuffled], "lr", "loss")
    assert cells.x[0, 0] == pytest.approx([-8, -7, -6, -5, -4])
    assert cells.mean[0, 0] == pytest.approx([4.1, 3.1, 2.1, 3.1, 4.1])
    assert (cells.n == 2).all()
    assert (cells.log2_width[0, 0], cells.spacing[0, 0], cells.best[0, 0]) == (6, 1, 2)
    assert (cells.first[0, 0], cells.last[0, 0], cells.upper[0, 0]) == (-8, -4, -4)


@pytest.mark.parametrize("loss", [np.nan, np.inf, 1e300])
def test_a_diverged_trial_takes_its_cell_out_and_bounds_from_above(loss: float) -> None:
    cells = cells_of([table(BOWL | {-4.0: [4.0, loss]})], "lr", "loss")
    assert cells.count[0, 0] == 4
    assert cells.last[0, 0] == -5
    assert cells.upper[0, 0] == -4
    far = cells_of([table({**BOWL, -4.0: [loss], 0.0: [loss]})], "lr", "loss")
    assert far.upper[0, 0] == -4, "the nearest"
    alone = cells_of([table({**BOWL, 0.0: [loss]})], "lr", "loss")
    assert alone.upper[0, 0] == -4, "four cells above the highest it bounds nothing"


def test_widths_of_unequal_grids_are_stacked_with_absent_cells_last() -> None:
    both = pd.concat([table(BOWL), table({-7.0: [3.0], -6.0: [2.0]}, width=128)])
    cells = cells_of([both], "lr", "loss")
    assert cells.count.tolist() == [[5, 2]]
    assert cells.x[0, 1].tolist() == [-7, -6, FAR, FAR, FAR]
    assert cells.mean[0, 1, 2:].tolist() == [0, 0, 0]
    assert cells.mean_n[0] == pytest.approx(12 / 7)


def test_rows_that_repeat_a_trial_are_replicates() -> None:
    twice = pd.concat([table(BOWL), table(BOWL)])
    assert (cells_of([twice], "lr", "loss").n == 4).all()
    assert (cells_of([table(BOWL).drop(columns="seed")], "lr", "loss").n == 2).all()


def test_a_seed_that_misses_cells_shifts_no_mean() -> None:
    """The second seed is 1 higher, has a slope of 0.1 per cell, and covers three of five cells."""
    whole = {x: [row[0]] for x, row in BOWL.items()}
    some = {x: [row[0], row[0] + 1 + 0.1 * (x + 6)] for x, row in BOWL.items() if x <= -6}
    cells = cells_of([table(whole | some)], "lr", "loss")
    steps = np.diff(cells.mean[0, 0]) - np.diff([4.0, 3.0, 2.0, 3.0, 4.0])
    assert steps == pytest.approx([0.05] * 4, abs=1e-9), "half the slope, at every cell alike"


def test_the_unit_is_the_excess_of_the_fourth_lowest_cell() -> None:
    cells = cells_of([table({x: [row[0]] for x, row in BOWL.items()})], "lr", "loss")
    scaled, level, unit = cells.normalised()
    assert (level[0], unit[0]) == (2, 2)
    assert scaled.mean[0, 0] == pytest.approx([1, 0.5, 0, 0.5, 1])
    assert scaled.losses[0, 0, :, 0] == pytest.approx([1, 0.5, 0, 0.5, 1])


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_first_noise_is_that_of_a_cell_mean(seeds: int) -> None:
    """Levels of seeds do not inflate the noise, and a cliff of several nats hardly does."""
    for world, within in (
        (World(seeds=seeds), 0.1),
        (World(seeds=seeds, level=0.1), 0.1),
        (World(seeds=seeds, cliff=2.5), 0.25),
    ):
        noise = first_noise(simulate(world, 200, seed=1).cells)
        assert np.median(noise) == pytest.approx(0.0025 / seeds**0.5, rel=within), world


def test_broken_runs_above_the_optimum_are_left_out() -> None:
    """The excess 2.5 octaves below the lowest cell is 3.125, and a cell of 9 exceeds it."""
    x = np.arange(-10.0, -1.0)
    losses = {at: [0.5 * (at + 6) ** 2] for at in x}
    losses[-3.0] = [9.0]
    cells = cells_of([table(losses)], "lr", "loss")
    found = broken(cells, np.array([0.01]))
    assert x[found[0, 0]].tolist() == [-3, -2], "it and all above it"
    kept = cells.without(found)
    assert (kept.count[0, 0], kept.last[0, 0], kept.upper[0, 0]) == (7, -4, -2)
    assert not broken(cells, np.array([10.0])).any(), "within the noise"


def test_nothing_is_broken_where_the_lowest_cell_is_the_first() -> None:
    rising = {float(x): [float(2 ** (x + 6))] for x in range(-6, 0)}
    assert not broken(cells_of([table(rising)], "lr", "loss"), np.array([0.01])).any()
