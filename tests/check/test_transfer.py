"""The cost of a value that is not the optimum."""

from __future__ import annotations

import pytest

from mutransfer_cli.check.transfer import excess_of
from mutransfer_cli.fit.optimum import Optimum

AT = {"low": 2**-6.1, "value": 2**-6.0, "high": 2**-5.8}
BOWL = Optimum(**AT, status="ok", loss=2.5, curvature=0.01, tilt=0.0, form=0.0)


def test_of_a_parabola_it_is_the_curvature_times_the_square() -> None:
    found = excess_of(BOWL, -5.0)
    assert found is not None
    assert found.value == pytest.approx(0.01)
    assert (found.loss, found.octaves) == (2.5, 1.0)
    assert found.low == pytest.approx(0.01 * 0.8**2), "the optimum may lie 0.2 higher"
    assert found.high == pytest.approx(0.01 * 1.1**2), "or 0.1 lower"


def test_it_may_be_nothing_where_the_optimum_may_be_there() -> None:
    found = excess_of(BOWL, -5.9)
    assert found is not None
    assert found.low == 0.0
    assert found.high == pytest.approx(0.01 * 0.2**2)


def test_too_high_costs_more_where_the_bowl_is_steeper_above() -> None:
    tilted = BOWL.model_copy(update={"tilt": 1.0})
    above, below = excess_of(tilted, -5.0), excess_of(tilted, -7.0)
    assert above is not None
    assert below is not None
    assert above.value / below.value == pytest.approx(1.95, abs=0.01)


def test_the_error_of_form_widens_it() -> None:
    plain, formed = excess_of(BOWL, -5.0), excess_of(BOWL.model_copy(update={"form": 0.2}), -5.0)
    assert plain is not None
    assert formed is not None
    assert formed.low < plain.low < plain.high < formed.high


def test_an_optimum_that_is_not_there_says_nothing() -> None:
    lost = Optimum(value=None, low=None, high=None, status="not_bracketed", side="high")
    assert excess_of(lost, -6.0) is None
