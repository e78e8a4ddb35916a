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


@pytest.mark.parametrize(
    ("low", "high", "expected", "verdict", "claim"),
    [
        (-0.1, 0.1, 0.0, "pass", "the learning rate transfers across width"),
        (0.11, 0.3, 0.0, "fail", "the learning rate does not transfer across width"),
        (0.0, 0.3, 0.0, "inconclusive", "not decided whether the learning rate transfers"),
        (-0.6, -0.4, -0.5, "pass", "the best learning rate moves with width as the rule expects"),
        (0.0, 0.1, -0.5, "fail", "learning rate does not move with width as the rule expects"),
        (-0.4, 0.4, None, None, "the best learning rate scales as width^+0.000"),
    ],
)
def test_verdict_and_claim(
    axis: Axis, low: float, high: float, expected: float | None, verdict: str | None, claim: str
) -> None:
    found = with_exponent(axis, low, high, expected)
    assert answer.verdict_on(found) == verdict
    assert claim in answer.claim("lr", found)


def test_without_an_exponent_nothing_is_decided(axis: Axis) -> None:
    assert answer.verdict_on(refused(axis, "too few")) == "inconclusive"
    assert "too little evidence" in answer.claim("lr", refused(axis, "too few"))


def test_the_headline_names_axes_of_the_same_verdict_together(axis: Axis) -> None:
    passed, failed = with_exponent(axis, -0.1, 0.1), with_exponent(axis, 0.2, 0.3)
    asked = {"lr": passed, "lr_mult.hidden": failed, "lr_mult.readout": failed}
    assert answer.headline(asked) == (
        "The learning rate transfers across width; the factor lr_mult.hidden and the factor "
        "lr_mult.readout do not"
    )
    assert answer.headline({"lr": failed, "weight_decay": failed}).endswith(
        "; the weight decay does not either"
    )


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
