"""Forms beside the line: whether the optima support them, and the cost of a distance from them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from mutransfer_cli.fit.forms import SMALL, FormPrediction, Forms, expected_shape

# as an older version wrote them: predictions lie about the line alone
OLD: dict[str, Any] = {
    "width": 64,
    "value": 2**-6,
    "exponent": -0.5,
    "bend": 0.1,
    "bend_error": 0.02,
    "limit": 2**-7,
    "drift": 0.5,
    "drift_error": 0.05,
}
NEW = OLD | {
    "fade": 0.0,
    "fade_half_width": 0.2,
    "curved_prediction": {"quantile": 4.0, "squares": (0.01, 0.02, 0.03, 0.0, 0.04)},
    "saturating_prediction": {"quantile": 3.0, "squares": (0.09, -0.1, 0.04)},
}


def test_a_half_width_is_the_root_of_a_polynomial() -> None:
    found = FormPrediction(quantile=4.0, squares=(0.01, 0.02, 0.03, 0.0, 0.04))
    assert found.half_width(2.0) == pytest.approx(math.sqrt(0.01 + 0.04 + 0.12 + 0.64))
    assert FormPrediction(quantile=4.0, squares=(-1e-20,)).half_width(0.0) == 0.0


@pytest.mark.parametrize(
    ("changes", "bends"),
    [
        ({"bend": 0.081}, True),
        ({"bend": -0.081}, True),
        ({"bend": 0.079}, False),
        ({"bend": 0.0, "fade": -0.21}, True),
        ({"bend": 0.0, "fade": 0.19}, False),
    ],
)
def test_a_bend_or_a_fading_drift_beyond_its_error_bends(
    changes: dict[str, float], bends: bool
) -> None:
    """Four standard errors of the bend are 0.08."""
    assert Forms(**NEW | changes).bends is bends


def test_files_of_older_versions_are_read_and_widen_nothing() -> None:
    old = Forms(**OLD)
    assert old.curved_prediction is None
    assert not old.bends
    assert old.supported_at(512) == {}
    assert old.at(512)["curved"] == pytest.approx(-6 - 0.5 * 3 + 0.1 * 9)


def test_forms_that_may_hold_at_a_width() -> None:
    found = Forms(**NEW).supported_at(256)
    assert found["curved"].half_width == pytest.approx(0.9)
    assert found["curved"].error == pytest.approx(0.9 / 4)
    saturating = math.sqrt(0.09 - 0.1 / 4 + 0.04 / 16)
    assert found["saturating"] == pytest.approx((-7 + 0.5 / 4, saturating, saturating / 3))


def test_a_form_that_fits_worse_than_the_line_does_not_count() -> None:
    assert [*Forms(**NEW | {"saturating_prediction": None}).supported_at(256)] == ["curved"]


def test_without_tilt_the_shape_is_the_squared_distance_and_error() -> None:
    assert expected_shape(-1.5, 0.5, 0.0) == pytest.approx(1.5**2 + 0.5**2)


@pytest.mark.parametrize("tilt", [-0.8, 0.3, 1.0])
@pytest.mark.parametrize("distance", [-2.0, 0.0, 1.0])
def test_the_shape_is_averaged_over_a_normal_distance(distance: float, tilt: float) -> None:
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    d = distance + 0.7 * nodes
    shape = 2 * (np.exp(tilt * d) - 1 - tilt * d) / tilt**2
    expected = float(weights @ shape / weights.sum())
    assert expected_shape(distance, 0.7, tilt) == pytest.approx(expected)


def test_small_tilts_join_smoothly_and_huge_distances_stay_finite() -> None:
    below, above = (expected_shape(1.0, 0.5, SMALL * by) for by in (0.999, 1.001))
    assert below == pytest.approx(above, rel=1e-6)
    assert math.isfinite(expected_shape(1e4, 1e3, 1.8))
