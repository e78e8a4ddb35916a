"""The stacked fit against the plain one of a single sweep."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mutransfer_cli.fit import reference
from mutransfer_cli.fit.bad_runs import settle
from mutransfer_cli.fit.cells import Cells, cells_of
from mutransfer_cli.fit.exponent import fit_sweeps
from tests.fit.worlds import World, simulate


def assert_agrees(cells: Cells) -> None:
    """Optima and exponents to 1e-9, for sweeps whose widths are all usable."""
    scaled, _, _ = cells.normalised()
    settled, _ = settle(scaled)
    kept, bowls = settled.cells, settled.bowls
    assert not bowls.quartic.any()
    lines = kept.losses - kept.mean[..., None] - kept.away
    for g, fit in enumerate(fit_sweeps(cells, "lr")):
        assert len(fit.usable) == cells.x.shape[1]
        assert fit.exponent is not None
        there = [kept.present[g, k] for k in range(cells.x.shape[1])]
        x, loss, line = (
            [values[g, k][has] for k, has in enumerate(there)]
            for values in (kept.x, kept.losses, lines)
        )
        loss = [one[:, ~np.isnan(one).all(0)] for one in loss]
        line = [one[:, ~np.isnan(one).all(0)] for one in line]
        runs = reference.Runs(x, loss, line, kept.freedom[g], float(settled.first_noise[g]))
        optima, exponent = reference.fit(cells.log2_width[g], runs)
        np.testing.assert_allclose(bowls.optimum[g], optima, rtol=0, atol=1e-9)
        found = [optimum.octaves[1] for optimum in fit.optimum.values()]
        np.testing.assert_allclose(found, optima, rtol=0, atol=1e-9)
        assert fit.exponent.value == pytest.approx(exponent, abs=1e-9)


@pytest.mark.parametrize(
    "world",
    [
        World(),
        World(seeds=1),
        World(cubic=0.1, scatter=0.1),
        World(spacing=1.0, cells=9, noise=0.005),
        World(widths=6, scatter=0.2, curvature_exponent=-0.4),
        World(level=0.01, shift=0.1),
        World(cliff=1.5),
        World(steeper=2.0, seeds=2),
    ],
    ids=str,
)
def test_simulated_sweeps(world: World) -> None:
    assert_agrees(simulate(world, 3, seed=6).cells)


def test_the_records_of_the_quickstart() -> None:
    trials = pd.read_csv(Path(__file__).parent / "quickstart.csv")
    assert_agrees(cells_of([trials], "lr", "eval_loss"))
