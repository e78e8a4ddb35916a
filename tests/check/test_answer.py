"""Verdicts and the sentences that state them."""

from __future__ import annotations

from typing import Any

import pytest

from mutransfer_cli.check import answer
from mutransfer_cli.fit.axes import fit_axes
from mutransfer_cli.fit.exponents import Axis, Interval
from mutransfer_cli.fit.from_records import exponents_of
from tests.fit.test_exponent import sweep

WIDTHS = (16, 32, 64, 128)


@pytest.fixture(scope="module")
def axis() -> Axis:
    (fit,) = fit_axes({"": sweep(0.0, WIDTHS)}, ["lr"]).values()
    return fit.axes["lr"].model_copy(update={"expected_exponent": 0.0})


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
        (0.0, 0.14, 0.0, "inconclusive", "the data do not yet show whether the learning rate"),
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


def test_an_open_verdict_says_which_runs_would_decide_it(axis: Axis) -> None:
    assert answer.headline({"lr": with_exponent(axis, -0.11, 0.13)}, runs=7) == (
        "Inconclusive: the data do not yet show whether the learning rate transfers across width; "
        "7 more runs at width 192 would decide it; so would 2 times the runs: the optima scatter "
        "no more than the noise"
    )


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
    undecided = with_exponent(axis, 0.0, 0.2)
    assert answer.headline({"lr": passed, "weight_decay": undecided}).endswith(
        "; the data do not yet show it for the weight decay"
    )


@pytest.mark.parametrize(("curvature", "runs"), [(0.05, 9), (None, None)])
def test_runs_are_counted_where_their_losses_are_known(
    axis: Axis, curvature: float | None, runs: int | None
) -> None:
    optimum = {w: at.model_copy(update={"curvature": curvature}) for w, at in axis.optimum.items()}
    found = fit_axes({"": sweep(0.0, WIDTHS)}, ["lr"])
    group = found[""].model_copy(
        update={"axes": {"lr": axis.model_copy(update={"optimum": optimum})}}
    )
    trials: Any = {"ok": 33, "diverged": 3}
    assert answer.runs_per_width(exponents_of("loss", trials, {"": group}, None)) == runs
    groups: Any = {"a": group}
    document = exponents_of("loss", trials, groups, None, "kind")
    assert answer.runs_per_width(document) is None
