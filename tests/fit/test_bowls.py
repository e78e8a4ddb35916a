"""Tilted bowls with known optima: worked by hand, and simulated."""

from __future__ import annotations

import numpy as np
import pytest

from mutransfer_cli.fit.arrays import Array
from mutransfer_cli.fit.bowls import Bowls, fit_bowls, fit_parabolas, prior_precision
from mutransfer_cli.fit.cells import Cells, first_noise
from mutransfer_cli.fit.phi import shape
from tests.fit.worlds import World, simulate

OPTIMA = np.array([-6.0, -6.3, -6.8])
GRID = np.arange(-9.0, -3.0, 0.5)


def cells_of(mean_KC: Array, x_C: Array = GRID, seeds: int = 1) -> Cells:
    """Cells of one sweep with the given losses of each width."""
    x = np.broadcast_to(x_C, (1, *mean_KC.shape))
    losses = np.repeat(mean_KC[None, ..., None], seeds, axis=-1)
    return Cells.of(x.copy(), losses, x.max(-1), np.arange(5.0, 5 + len(mean_KC))[None])


def tilted(tilt: float, curvature: float = 0.5, x_C: Array = GRID) -> Cells:
    d_KC = x_C - OPTIMA[:, None]
    return cells_of(curvature * shape(d_KC, np.full_like(d_KC, tilt))[0], x_C)


def fitted(cells: Cells, noise: float = 1e-3) -> Bowls:
    return fit_bowls(cells, np.array([noise]))


def test_a_parabola_gives_back_its_vertex_and_curvature() -> None:
    centre, curvature = fit_parabolas(tilted(0.0))
    assert centre[0] == pytest.approx(OPTIMA, abs=1e-6)
    assert curvature[0] == pytest.approx([0.5] * 3, abs=1e-6)


@pytest.mark.parametrize("tilt", [-0.5, 0.0, 0.8])
def test_bowls_without_noise_are_found_exactly(tilt: float) -> None:
    """The prior on the tilts shifts them slightly, by noise^2 over the information in the cells."""
    found = fitted(tilted(tilt), noise=1e-5)
    assert found.optimum[0] == pytest.approx(OPTIMA, abs=1e-4)
    assert found.curvature[0] == pytest.approx([0.5] * 3, abs=1e-3)
    assert found.tilt[0] == pytest.approx([tilt] * 3, abs=1e-3)
    assert found.loss[0] == pytest.approx([0.0] * 3, abs=1e-4)
    assert found.slope[0] == pytest.approx([0.0] * 3, abs=1e-4)


def test_a_parabola_misplaces_a_tilted_bowl_and_the_tilted_fit_does_not() -> None:
    """The tilted bowl stays where it is in a narrow window, too."""
    found = fitted(tilted(0.8), noise=1e-5)
    assert np.all(fit_parabolas(tilted(0.8))[0][0] < OPTIMA - 0.05)
    assert np.abs(found.optimum[0] - OPTIMA).max() < 1e-4
    assert np.abs(found.narrow[0] - OPTIMA).max() < 1e-4


def test_a_bowl_that_is_flat_at_the_bottom_gets_a_quartic_term() -> None:
    """Without it, a tilt of either sign imitates the walls, and the optimum is off by 0.4."""
    d_KC = GRID - OPTIMA[:, None]
    found = fitted(cells_of(0.1 * d_KC**4))
    assert found.optimum[0] == pytest.approx(OPTIMA, abs=0.02)
    assert found.quartic[0] == pytest.approx([0.1] * 3, rel=0.1)
    assert not fitted(tilted(0.8)).quartic.any(), "not where bowls fit without it"
    assert not fitted(cells_of(np.abs(d_KC))).quartic.any(), "a V is not flat"


def test_the_prior_lets_a_common_tilt_go_and_holds_own_ones() -> None:
    precision = prior_precision(3)
    common, apart = np.ones(3) / 3**0.5, np.array([1.0, -1.0, 0.0]) / 2**0.5
    assert common @ precision @ common == pytest.approx(1 / (0.2**2 + 3))
    assert apart @ precision @ apart == pytest.approx(1 / 0.2**2)


def test_the_covariance_is_the_spread_of_the_optima() -> None:
    """Over 1,000 sweeps of one seed; the errors are slightly correlated through the tilt."""
    sweeps = simulate(World(seeds=1, curvature=(0.014, 0.014)), 1000, seed=3)
    cells, _, _ = sweeps.cells.normalised()
    found = fit_bowls(cells, first_noise(cells))
    error = found.optimum - sweeps.optimum
    expected = found.covariance.mean(0)
    assert np.cov(error.T) == pytest.approx(expected, rel=0.25, abs=3e-4)
    assert (error / np.sqrt(np.diagonal(found.covariance, 0, 1, 2))).std() == pytest.approx(
        1, abs=0.1
    )


def test_the_noise_is_that_of_cell_means() -> None:
    """One loss has sd 0.0025; there are three seeds, whose levels are removed."""
    for level in (0.0, 0.05):
        cells = simulate(World(level=level), 100, seed=4).cells
        found = fit_bowls(cells, first_noise(cells))
        assert np.median(found.noise) == pytest.approx(0.0025 / 3**0.5, rel=0.1)
