from __future__ import annotations

import numpy as np

from mutransfer_cli.fit.exponent import fit_sweeps
from tests.fit.worlds import World, simulate


def test_the_form_spread_of_straight_laws_is_noise_and_that_of_drifting_tilts_is_not() -> None:
    """A steepness that drifts with width separates wide windows from narrow ones."""
    holds_none = []
    for world in (World(), World(drift=1.0, noise=0.001)):
        fits = fit_sweeps(simulate(world, 30, 1).cells, "lr", resamples=200)
        intervals = [fit.form_interval for fit in fits if fit.form_interval]
        assert len(intervals) == 30
        holds_none.append(np.mean([low <= 0 <= high for low, high in intervals]))
    assert holds_none[0] >= 0.85
    assert holds_none[1] <= 0.3


def test_draws_are_the_same_every_time_and_absent_unless_asked_for() -> None:
    cells = simulate(World(), 1, 1).cells
    first, second = (fit_sweeps(cells, "lr", resamples=50)[0] for _ in range(2))
    assert first.form_interval is not None
    assert first.form_interval == second.form_interval
    (plain,) = fit_sweeps(cells, "lr")
    assert plain.form_interval is None
    assert plain.exponent is not None
    assert plain.exponent == first.exponent
