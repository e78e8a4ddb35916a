"""Level and slope that the runs of a seed share, and what seeds do to the optima."""

from __future__ import annotations

import numpy as np
import pytest

from mutransfer_cli.fit.arrays import Array
from mutransfer_cli.fit.seeds import inflation, own_lines, seed_lines

X = np.arange(-3.0, 3.5, 0.5)


def deviations(losses_CS: Array) -> Array:
    """Losses [C, S] of one width minus the lines of its seeds."""
    losses = losses_CS[None, None]
    seeded = np.ones((1, 1, losses.shape[-1]), dtype=bool)
    return np.asarray(losses_CS - seed_lines(X[None, None], losses, seeded).line[0, 0])


def runs(noise: float = 0.001, seeds: int = 3) -> Array:
    """Runs whose seed 1 is 0.5 higher and has a slope of 0.1 per octave."""
    random = np.random.default_rng(0)
    losses = X[:, None] ** 2 + random.normal(0, noise, (X.size, seeds))
    losses[:, 1] += 0.5 + 0.1 * X
    return losses


def test_level_and_slope_of_a_seed_are_taken_out_even_where_it_lacks_cells() -> None:
    """Seed 1 has 8 of 13 cells; the means of all cells follow the parabola, less a line."""
    losses = runs()
    losses[8:, 1] = np.nan
    means = np.nanmean(deviations(losses), axis=1) - X**2
    line = np.polyval(np.polyfit(X, means, 1), X)
    assert means == pytest.approx(line, abs=0.003)


def test_a_seed_of_few_cells_has_a_level_and_no_slope() -> None:
    losses = runs()[:, :2]
    losses[4:, 1] = np.nan
    one = seed_lines(X[None, None], losses[None, None], np.ones((1, 1, 2), dtype=bool)).line[0, 0]
    assert one[:, 1] == pytest.approx([one[0, 1]] * X.size)


def test_seeds_without_lines_leave_the_losses_as_they_are() -> None:
    random = np.random.default_rng(1)
    losses = X[:, None] ** 2 + random.normal(0, 0.01, (X.size, 3))
    assert deviations(losses) == pytest.approx(losses)
    found = seed_lines(X[None, None], losses[None, None], np.ones((1, 1, 3), dtype=bool))
    assert found.spent[0, 0] == 0


def test_lines_spend_degrees_of_freedom() -> None:
    """Two differences between three levels; one slope more shrinks the rest."""
    found = seed_lines(X[None, None], runs()[None, None], np.ones((1, 1, 3), dtype=bool))
    assert found.spent[0, 0] == pytest.approx(4, abs=0.1)


def test_replicates_have_no_lines() -> None:
    found = seed_lines(X[None, None], runs()[None, None], np.zeros((1, 1, 3), dtype=bool))
    assert not found.line.any()


def test_the_deviations_of_a_seed_are_a_level_and_a_slope() -> None:
    """The line 2 + 3 x is fitted to two of three cells and evaluated at the third."""
    x = np.array([-1.0, 0.0, 1.0])
    columns = np.stack([np.ones(3), x], axis=-1)[None, None]
    away = np.array([-1.0, 2.0, np.nan])[None, None, :, None]
    lines = own_lines(away, np.ones((1, 1, 3)), columns)
    assert lines.ravel() == pytest.approx([-1, 2, 5], abs=1e-6)


def test_seeds_that_move_the_optima_inflate_their_variance() -> None:
    """Three seeds at 0, 1 and 2 have variance 1; their mean has 1/3."""
    displaced, there = np.array([[[0.0, 1.0, 2.0]] * 2]), np.ones((1, 2, 3), dtype=bool)
    factor, freedom = inflation(displaced, there, np.full((1, 2), 1 / 30), np.array([50.0]))
    assert (factor[0], freedom[0]) == (pytest.approx(10), 4)
    factor, freedom = inflation(displaced, there, np.full((1, 2), 1 / 3), np.array([50.0]))
    assert (factor[0], freedom[0]) == (1, 50)
