"""Verdicts and sentences about exponents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mutransfer_cli.fit.exponents import Axis, Interval
from mutransfer_cli.report import answer
from mutransfer_cli.report.run import Run

RunOf = Callable[..., Run]


@pytest.fixture
def axis(run_of: RunOf) -> Axis:
    return run_of().document.axes["lr"]


def with_exponent(axis: Axis, low: float, high: float, expected: float | None = 0.0) -> Axis:
    interval = Interval(value=(low + high) / 2, low=low, high=high, level=0.95)
    return axis.model_copy(update={"exponent": interval, "expected_exponent": expected})


def refused(axis: Axis, sentence: str, **values: Any) -> Axis:
    return axis.model_copy(update={"exponent": None, "sentence": sentence, **values})


def test_axes_are_refused_together_for_the_same_reason(axis: Axis) -> None:
    few, flat = refused(axis, "too few"), refused(axis, "flat")
    asked = {"lr": few, "weight_decay": flat, "lr_mult.hidden": few, "lr_mult.readout": axis}
    assert answer.refused(asked) == [["lr", "lr_mult.hidden"], ["weight_decay"]]


def test_reasons_give_the_factor_over_all_widths(run_of: RunOf, axis: Axis) -> None:
    run = run_of()
    text = answer.reasons(run, "lr", with_exponent(axis, 0.0, 2 / 3))  # widths 16 to 128
    assert "changes by a factor of 2.00 (1.00 to 4.00), to 0.0156. " in text
    assert "reaches beyond -0.10 to +0.10" in text
    unexpected = answer.reasons(run, "lr", with_exponent(axis, 0.0, 0.5, None))
    assert unexpected.endswith("The rule does not predict it, so there is no verdict.")
    assert answer.reasons(run, "lr", refused(axis, "too few widths")) == "Too few widths."


def test_only_fitted_exponents_are_drawn(axis: Axis) -> None:
    found = with_exponent(axis, -0.25, 0.25, None)
    (figure,) = answer.exponents({"lr": refused(axis, "too few"), "weight_decay": found})
    assert figure.words == "weight_decay: +0.000, interval -0.250 to +0.250"
    assert "shaded" not in figure.caption
    assert answer.exponents({"lr": refused(axis, "too few")}) == []
