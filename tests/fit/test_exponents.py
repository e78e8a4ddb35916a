"""The types of the fit's result, which are also those of the exponents file."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from mutransfer_cli.fit.exponents import Axis, Interval, Line, Optimum, Prediction

EXPONENT = Interval(value=-0.5, low=-0.75, high=-0.25, level=0.95)
OPTIMUM = Optimum(value=2**-6, low=2**-6.5, high=2**-5.75, status="ok")
LOST = Optimum(value=None, low=None, high=None, status="flat")


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
    assert found.spread == pytest.approx(math.hypot(0.3, 0.3))
    assert axis().at(64) == pytest.approx((-6, 0.5, math.hypot(0.3, 0.1)))


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
