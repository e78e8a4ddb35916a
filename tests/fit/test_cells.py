"""Cells made from tables, what their seeds share, and their noise."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mutransfer_cli.fit.arrays import arrays_of
from mutransfer_cli.fit.cells import FAR, cells_of, first_noise
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


def test_runs_without_a_seed_that_cells_share_are_replicates() -> None:
    """Rows without seeds, of one seed alone, or each with a seed of its own."""
    rows = table(BOWL)
    for replicates in (
        rows.drop(columns="seed"),
        rows.assign(seed=0),
        rows.assign(seed=range(len(rows))),
    ):
        cells = cells_of([replicates], "lr", "loss")
        assert (cells.n == 2).all()
        assert not cells.seeded.any()
        assert cells.mean[0, 0] == pytest.approx([4.1, 3.1, 2.1, 3.1, 4.1])


def test_further_runs_of_a_seed_in_a_cell_are_averaged() -> None:
    """They saw the same data, so that they are no further evidence."""
    again = pd.concat([table(BOWL), table({-6.0: [2.1]})])
    cells = cells_of([again], "lr", "loss")
    assert (cells.n == 2).all()
    assert cells.losses[0, 0, 2].tolist() == pytest.approx([2.05, 2.2])
    assert cells.seed[0, 0, 2].tolist() == ["0", "1"]


@pytest.mark.parametrize("columns", [["width", "lr", "loss"], ["width", "lr", "seed", "loss"]])
def test_the_order_of_rows_does_not_matter(columns: list[str]) -> None:
    random = np.random.default_rng(0)
    rows = table({x: [row[0], *random.normal(row[1], 0.1, 2)] for x, row in BOWL.items()})
    rows = rows[random.random(len(rows)) < 0.8][columns]
    found = cells_of([rows], "lr", "loss")
    for draw in range(3):
        shuffled = cells_of([rows.sample(frac=1, random_state=draw)], "lr", "loss")
        for name, values in arrays_of(found).items():
            np.testing.assert_array_equal(values, getattr(shuffled, name), err_msg=name)


@pytest.mark.parametrize("missing", [0.0, 0.4])
@pytest.mark.parametrize("seed", [True, False])
def test_constant_losses_stay_what_they_are(missing: float, seed: bool) -> None:
    """Whatever is missing or repeated; and a shift of all losses shifts the means by as much."""
    random = np.random.default_rng(0)
    rows = table({float(x): [3.0] * 3 for x in range(-8, 0)})
    rows = pd.concat([rows[random.random(len(rows)) >= missing], table({-5.0: [3.0]})])
    rows = rows if seed else rows.drop(columns="seed")
    cells = cells_of([rows], "lr", "loss")
    assert cells.mean[cells.present].tolist() == [3.0] * 8
    noisy = rows.assign(loss=random.normal(3, 0.1, len(rows)))
    shifted = noisy.assign(loss=noisy["loss"] + 7)
    at, moved = (cells_of([one], "lr", "loss") for one in (noisy, shifted))
    assert moved.mean[at.present] == pytest.approx(at.mean[at.present] + 7, abs=1e-9)


def test_a_seed_that_misses_cells_shifts_no_mean() -> None:
    """The second seed is 1 higher, has a slope of 0.1 per cell, and covers three of five cells."""
    whole = {x: [row[0]] for x, row in BOWL.items()}
    some = {x: [row[0], row[0] + 1 + 0.1 * (x + 6)] for x, row in BOWL.items() if x <= -6}
    cells = cells_of([table(whole | some)], "lr", "loss")
    steps = np.diff(cells.mean[0, 0]) - np.diff([4.0, 3.0, 2.0, 3.0, 4.0])
    assert steps == pytest.approx([0.05] * 4, abs=2e-3), "half the slope, at every cell alike"


def test_runs_that_are_left_out_take_their_cell_with_them() -> None:
    cells = cells_of([table(BOWL)], "lr", "loss")
    runs = np.zeros(cells.losses.shape, dtype=bool)
    runs[0, 0, 1] = True
    runs[0, 0, 4, 0] = True
    fewer = cells.without_runs(runs)
    assert fewer.x[0, 0].tolist() == [-8, -6, -5, -4, FAR]
    assert fewer.n[0, 0].tolist() == [2, 2, 2, 1, 0]
    assert fewer.upper[0, 0] == -4


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


def test_the_first_noise_of_unequal_cells_is_that_of_their_mean_number_of_runs() -> None:
    """Three of 13 cells have a second run."""
    cells = simulate(World(seeds=2, again=3), 200, seed=1).cells
    expected = 0.0025 / np.sqrt(cells.mean_n[0])
    assert np.median(first_noise(cells)) == pytest.approx(expected, rel=0.1)
