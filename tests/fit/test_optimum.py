"""The optimum of one width: what distances from it cost."""

from __future__ import annotations

import numpy as np
import pytest

from mutransfer_cli.fit.optimum import Optimum

BOWL = Optimum(
    status="ok", value=2**-6, low=2**-6.1, high=2**-5.9, curvature=0.02, tilt=0.8, quartic=0.003
)


def test_the_excess_is_that_of_the_bowl() -> None:
    d = 1.5
    phi = 2 * (np.exp(0.8 * d) - 1 - 0.8 * d) / 0.8**2
    assert BOWL.expected_excess(d, 0.0) == pytest.approx(0.02 * phi + 0.003 * d**4)
    assert BOWL.expected_excess(0.0, 0.0) == 0
    assert BOWL.model_copy(update={"curvature": None}).expected_excess(1.0, 0.1) is None


def test_an_uncertain_distance_costs_its_mean() -> None:
    draws = np.random.default_rng(0).normal(0.5, 0.3, 400_000)
    losses = 0.02 * 2 * (np.exp(0.8 * draws) - 1 - 0.8 * draws) / 0.8**2 + 0.003 * draws**4
    assert BOWL.expected_excess(0.5, 0.3) == pytest.approx(losses.mean(), rel=0.01)
