"""The optimum of one width, or the reason why it has none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from mutransfer_cli.fit.arrays import Array
from mutransfer_cli.fit.exponent import fit_exponents
from mutransfer_cli.fit.exponents import Axis
from mutransfer_cli.fit.optimum import Optimum

Losses = Callable[[Array], Array]
GRID = np.arange(-9.0, -2.0, 0.5)


def parabola(optimum: float, curvature: float = 0.04) -> Losses:
    return lambda x: 2 + curvature * (x - optimum) ** 2


def sweep(losses: Losses, x: Array = GRID, noise: float = 0.001, diverged: float = np.inf) -> Axis:
    """A sweep with the bowl at width 32 and two ordinary widths that determine the noise."""
    random = np.random.default_rng(0)
    rows = [
        {
            "width": width,
            "lr": 2.0**at,
            "loss": np.nan if width == 32 and at >= diverged else loss,
        }
        for width, f, grid in ((32, losses, x), (64, parabola(-6), GRID), (128, parabola(-6), GRID))
        for at, loss in zip(grid, f(grid) + random.normal(0, noise, grid.size), strict=True)
    ]
    return fit_exponents(pd.DataFrame(rows))


def bowl(
    losses: Losses, x: Array = GRID, noise: float = 0.001, diverged: float = np.inf
) -> Optimum:
    """The optimum at width 32."""
    return sweep(losses, x, noise, diverged).optimum[32]


def log2(found: Optimum) -> float:
    return found.octaves[1]


@pytest.mark.parametrize("optimum", [-6.0, -5.3, -4.9])
def test_the_optimum_of_a_parabola(optimum: float) -> None:
    found = bowl(parabola(optimum))
    assert found.status == "ok"
    assert log2(found) == pytest.approx(optimum, abs=0.03)
    assert found.curvature == pytest.approx(0.04, rel=0.1)
    assert found.tilt == pytest.approx(0, abs=0.1)


def test_a_bowl_that_is_steeper_above_is_not_taken_for_a_parabola() -> None:
    found = bowl(lambda x: 2 + 0.04 * ((x + 6) ** 2 + 0.2 * (x + 6) ** 3))
    assert log2(found) == pytest.approx(-6, abs=0.05)
    assert found.tilt is not None
    assert found.tilt > 0.3
    assert found.form is not None
    assert found.form < 0.05, "in a narrower window it is where it was"


def test_an_optimum_at_the_edge_is_not_bracketed_and_its_side_is_named() -> None:
    assert (bowl(parabola(-1.5)).status, bowl(parabola(-1.5)).side) == ("not_bracketed", "high")
    assert (bowl(parabola(-10)).status, bowl(parabola(-10)).side) == ("not_bracketed", "low")
    assert bowl(parabola(-1.5)).value is None


def test_a_diverged_cell_above_brackets() -> None:
    assert bowl(parabola(-3.9), x=np.arange(-9.0, -3.9, 0.5)).status == "not_bracketed"
    assert bowl(parabola(-3.9), diverged=-3.6).status == "ok"


def test_broken_runs_far_above_do_not_move_the_optimum() -> None:
    found = bowl(lambda x: np.where(x > -4.2, 9.0, parabola(-6)(x)))
    assert log2(found) == pytest.approx(-6, abs=0.05)


def test_near_an_edge_there_is_a_warning() -> None:
    warned = sweep(parabola(-3.2)).warnings["near_edge"]
    assert warned.startswith("at width 32 the optimal lr lies less than an octave from an end")
    assert "near_edge" not in sweep(parabola(-6)).warnings


@pytest.mark.parametrize("deeper", [0.0, 0.01])
@pytest.mark.parametrize("noise", [0.001, 0.003])
def test_a_second_minimum_is_seen(deeper: float, noise: float) -> None:
    """Basins 3 octaves apart, one of which may be deeper by a quarter of the wall between them."""
    twice = bowl(
        lambda x: 2 + 0.02 * np.minimum((x + 7.5) ** 2, (x + 4.5) ** 2) - deeper * (x < -6),
        noise=noise,
    )
    assert twice.status == "multimodal"


def test_an_optimum_at_the_edge_of_divergence_is_called_that() -> None:
    """The loss falls up to the last rate that trains, with diverged runs or broken ones above."""
    diverged = bowl(parabola(-3.0), diverged=-4.1)
    assert diverged.status == "at_divergence"
    broken = bowl(lambda x: parabola(-3.0)(x) + 5 * (x > -4.1))
    assert broken.status == "at_divergence"
    rows = sweep(parabola(-3.0), diverged=-4.1)
    assert "width 32: the loss falls up to the lr" in rows.sentence


def test_what_is_flat_or_noisy_has_no_optimum() -> None:
    assert bowl(lambda x: 0 * x, noise=0.02).status != "ok"
    assert bowl(parabola(-5.75, 0.0005), noise=0.004).status != "ok"


def test_three_cells_are_too_few() -> None:
    assert bowl(parabola(-6), x=np.array([-7.0, -6.0, -5.0])).status == "too_few_points"
    assert bowl(parabola(-6), diverged=-10).status == "too_few_points"
    assert "width 32: too few usable values (0)" in sweep(parabola(-6), diverged=-10).sentence


def test_flat_bottoms_between_walls_have_an_optimum() -> None:
    """Walls of 0.3 per octave, on a grid of octaves: a parabola's steps would not settle."""
    losses = {
        (32, 0): [0.94, 0.75, 0.43, 0.23, 0.18, 0.18, 0.53, 1.05],
        (32, 1): [0.90, 0.67, 0.36, 0.20, 0.14, 0.18, 0.53, 1.05],
        (64, 0): [0.78, 0.47, 0.17, 0.09, 0.07, 0.09, 0.18, 1.02],
        (64, 1): [0.81, 0.50, 0.19, 0.09, 0.07, 0.09, 0.18, 0.98],
        (128, 0): [0.75, 0.39, 0.08, 0.05, 0.04, 0.05, 0.11, 0.69],
        (128, 1): [0.74, 0.39, 0.09, 0.05, 0.05, 0.05, 0.10, 0.66],
        (256, 0): [0.66, 0.28, 0.04, 0.03, 0.03, 0.03, 0.07, 0.25],
        (256, 1): [0.67, 0.28, 0.04, 0.03, 0.03, 0.03, 0.06, 0.31],
    }
    rows = [
        {"width": width, "seed": seed, "lr": 2.0 ** (x - 9), "loss": loss}
        for (width, seed), row in losses.items()
        for x, loss in enumerate(row)
    ]
    found = fit_exponents(pd.DataFrame(rows)).optimum
    assert {at.status for at in found.values()} == {"ok"}
    assert all(-6.5 < at.octaves[1] < -4 for at in found.values())
