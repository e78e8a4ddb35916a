"""The types of the fit's result, which are also those of the exponents file."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from mutransfer_cli.fit.exponents import Axis, Interval, Line, Prediction
from mutransfer_cli.fit.forms import FormPrediction, Forms
from mutransfer_cli.fit.optimum import Optimum

EXPONENT = Interval(value=-0.5, low=-0.75, high=-0.25, level=0.95)
OPTIMUM = Optimum(value=2**-6, low=2**-6.5, high=2**-5.75, status="ok")
LOST = Optimum(value=None, low=None, high=None, status="flat")

# at width 256, three doublings away, one future optimum lies within 0.6 octaves of the curved form
BENT = Forms(
    width=32,
    value=2**-6,
    exponent=-0.5,
    bend=0.25,
    bend_error=0.05,
    limit=2**-7,
    drift=4.0,
    drift_error=0.1,
    fade=0.0,
    fade_half_width=0.1,
    curved_prediction=FormPrediction(quantile=3.0, squares=(0.0, 0.0, 0.04, 0.0, 0.0)),
    saturating_prediction=FormPrediction(quantile=2.5, squares=(0.01, 0.0, 0.0)),
)


def axis(**changes: Any) -> Axis:
    parts: dict[str, Any] = {
        "status": "ok",
        "sentence": "",
        "exponent": EXPONENT,
        "law_interval": EXPONENT,
        "measurement_interval": EXPONENT,
        "form_spread": None,
        "without_largest": None,
        "expected_exponent": None,
        "line": Line(width=64, value=2**-6, low=2**-6.5, high=2**-5.5, scatter=0.1),
        "prediction": Prediction(width=32, half_width=0.3, per_octave=0.1, quantile=2.0),
        "warnings": {"a": "one"},
        "optimum": {128: OPTIMUM, 64: LOST, 32: OPTIMUM},
    }
    return Axis(**parts | changes)


def test_the_line_at_a_width() -> None:
    """Width 256 is two doublings above the line's centre and three above the prediction's width."""
    found = axis().at(256)
    assert found.value == pytest.approx(-7)
    assert found.half_width == pytest.approx(math.hypot(0.5, 0.5))
    assert (found.low, found.high) == pytest.approx((-7 - math.hypot(0.5, 0.5), -7 + 0.5**0.5))
    wide = axis(prediction=Prediction(width=32, half_width=0.8, per_octave=0.1, quantile=2.0))
    apart = math.hypot(0.8, 0.1)
    assert wide.at(64) == pytest.approx((-6, 0.5, -6 - apart, -6 + apart))


def test_a_prediction_spans_the_forms_that_the_optima_support() -> None:
    """The line gives 2^-7 at width 256, the curved form 2^-5.25, the saturating one 2^-6.5."""
    assert BENT.at(256) == pytest.approx({"curved": -5.25, "saturating": -6.5})
    line, found = axis().at(256), axis(forms=BENT).at(256)
    assert found[:3] == line[:3]
    assert found.high == pytest.approx(-5.25 + 0.6)
    unsure = BENT.model_copy(update={"bend_error": 0.2})
    assert axis(forms=unsure).at(256) == line


def test_the_excess_of_the_line_is_the_largest_over_the_forms() -> None:
    bowl = {128: OPTIMUM.model_copy(update={"curvature": 0.01, "tilt": 0.0})}
    # 0.5 ** 0.5 octaves of the line are two standard errors
    assert axis(optimum=bowl).excess_at(256) == pytest.approx(0.01 * 0.5 / 4)
    by_curve = 1.75**2 + (0.6 / 3) ** 2
    assert axis(optimum=bowl, forms=BENT).excess_at(256) == pytest.approx(0.01 * by_curve)
    assert axis(forms=BENT).excess_at(256) is None, "given optima have no bowls"


def test_a_line_cannot_be_evaluated_where_there_is_none() -> None:
    names = ("exponent", "law_interval", "measurement_interval", "line", "prediction")
    refused = axis(status="insufficient", **dict.fromkeys(names))
    with pytest.raises(AssertionError, match="callers refuse"):
        refused.at(64)


def test_usable_optima_ascend() -> None:
    assert list(axis().usable) == [32, 128]
    assert OPTIMUM.octaves == pytest.approx((-6.5, -6, -5.75))


def test_warnings_are_added_to_a_copy() -> None:
    one = axis()
    assert one.warned({"b": "two"}).warnings == {"a": "one", "b": "two"}
    assert one.warnings == {"a": "one"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"line": None}, "where the status is ok and nowhere else"),
        ({"status": "ridge"}, "where the status is ok and nowhere else, found status ridge"),
        ({"optimum": {64: LOST}}, "status is ok, but no optimum is"),
    ],
)
def test_status_and_parts_agree(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        axis(**changes)


def test_intervals_hold_their_value() -> None:
    with pytest.raises(ValidationError, match="low <= value <= high, found 1, 0, 2"):
        Interval(value=0, low=1, high=2, level=0.95)
    with pytest.raises(ValidationError, match="expected value, low and high of an optimum"):
        Optimum(value=1, low=None, high=2, status="ok")
    with pytest.raises(ValidationError, match="low <= value <= high"):
        Line(width=1, value=1, low=2, high=3, scatter=0)
