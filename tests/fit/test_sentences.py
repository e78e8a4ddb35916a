"""Sentences and warnings of fits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mutransfer_cli.fit.exponent import fit_exponents
from mutransfer_cli.fit.exponents import Interval, RidgeShape
from mutransfer_cli.fit.optimum import Optimum, OptimumStatus, Side
from mutransfer_cli.fit.sentences import (
    advice,
    decay_warnings,
    drift_warnings,
    edge_warnings,
    law_sentence,
    loss_warnings,
    ridge_sentence,
    size_warnings,
    train_warnings,
    why_insufficient,
)
from tests.fit.test_exponent import sweep

EXPONENT = Interval(value=-0.5, low=-0.6, high=-0.4, level=0.95)


def lost(status: OptimumStatus, side: Side | None = None) -> Optimum:
    return Optimum(value=None, low=None, high=None, status=status, side=side)


def found(loss: float | None = None) -> Optimum:
    return Optimum(value=0.1, low=0.09, high=0.11, status="ok", loss=loss)


def test_the_law_as_a_sentence() -> None:
    assert law_sentence("lr", EXPONENT, 4) == (
        "the optimal lr scales as width^-0.500 (95% interval -0.600 to -0.400, 4 widths)"
    )


def test_widths_with_the_same_fault_are_named_together() -> None:
    optima = {32: found(), 64: lost("not_bracketed", "low"), 128: lost("not_bracketed", "low")}
    assert why_insufficient("lr", optima, dict.fromkeys(optima, 7)) == (
        "1 of 3 widths have a usable optimum, 3 are needed: width 64, 128: the optimum "
        "lies at the low end, add lower values of lr"
    )
    assert why_insufficient("lr", {32: found()}, {32: 7}).endswith("add at least 2 widths")
    two = why_insufficient("lr", {32: found(), 64: lost("too_few_points")}, {32: 7, 64: 2})
    assert "too few usable values (2), add values of lr; add at least 1 width" in two


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("not_bracketed", "add higher values of lr"),
        ("too_few_points", "too few usable values (3)"),
        ("flat", "no difference there beyond the noise"),
        ("multimodal", "look at the runs between them"),
        ("unresolved", "lost in the noise, add values of lr near it, or seeds"),
    ],
)
def test_every_fault_comes_with_advice(status: OptimumStatus, words: str) -> None:
    side: Side | None = "high" if status == "not_bracketed" else None
    assert words in advice("lr", lost(status, side), 3)


@pytest.mark.parametrize(("only", "words"), [(True, "only lr * wd is"), (False, "along the ridge")])
def test_a_ridge_as_a_sentence(only: bool, words: str) -> None:
    ridge = RidgeShape(angle=45.2, angle_error=0.3, product_only=only, exponent=EXPONENT)
    sentence = ridge_sentence(ridge, "lr * wd")
    assert "(45.2 ± 0.3 degrees from the lr axis)" in sentence
    assert words in sentence


def test_widths_near_an_edge_are_named() -> None:
    assert edge_warnings("lr", ()) == {}
    assert edge_warnings("lr", (32, 64))["near_edge"].startswith("at width 32, 64 the optimal lr")


def test_a_drifting_tilt_is_named_where_its_error_is_smaller() -> None:
    assert drift_warnings("lr", 0.09, 0.0) == {}
    assert drift_warnings("lr", -0.3, 0.2) == {}
    assert "-0.30 of tilt per doubling" in drift_warnings("lr", -0.3, 0.1)["shape_drifts"]


def test_a_wider_model_is_worse_beyond_three_standard_errors_of_both() -> None:
    optima, noise = {32: found(3.0), 64: found(3.04), 128: lost("flat")}, {32: 0.01, 64: 0.01}
    assert loss_warnings(optima, noise) == {}
    worse = optima | {64: found(3.05)}
    assert loss_warnings(worse, noise)["non_monotone_loss"].startswith(
        "width 64 ends at 3.050 and width 32 at 3.000: wider is worse"
    )


def test_a_training_loss_with_another_optimum_is_named() -> None:
    table = sweep(0.0)
    x = np.log2(table["lr"])
    table["train_loss"] = table["loss"]
    fit = fit_exponents(table)
    assert train_warnings(fit, fit_exponents(table, loss="train_loss"), "lr") == {}
    there = table["width"] == 64
    table.loc[there, "train_loss"] = 2.5 + 0.04 * (x[there] + 4) ** 2
    warned = train_warnings(fit, fit_exponents(table, loss="train_loss"), "lr")
    assert warned["train_eval_differ"].startswith("at width 64 the training loss")


def test_what_varies_beside_the_axes_is_named() -> None:
    trials = pd.DataFrame({"width": [32, 64], "depth": [2, 4], "weight_decay": [0.1, 0.2]})
    assert list(size_warnings(trials, ("depth", "steps"))) == ["size_moves_with_width"]
    assert size_warnings(trials.assign(depth=2), ("depth",)) == {}
    assert list(decay_warnings(trials, ["lr"])) == ["decay_not_fitted"]
    assert decay_warnings(trials, ["lr", "weight_decay"]) == {}
    assert decay_warnings(trials.assign(weight_decay=0.1), ["lr"]) == {}
