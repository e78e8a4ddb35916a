"""Forecasts at a target width, and the runs that were not fitted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

from mutransfer_cli.fit.optimum import LeftOut
from mutransfer_cli.report.forecast import forecasts, left_out
from mutransfer_cli.report.run import Run, Target
from mutransfer_cli.words import rate, rate_and_power

RunOf = Callable[..., Run]


def test_what_the_line_foresees(run_of: RunOf) -> None:
    run = run_of()
    axis = run.document.axes["lr"]
    found = forecasts(run, {"lr": axis}, 256)
    ((name, value, interval, cost),) = found.rows
    at = axis.at(256)
    low, high = rate(2**at.low), rate(2**at.high)
    assert (found.width, found.about) == (256, "Width 256 is 2 times the largest fitted width.")
    assert (name, value) == ("lr", rate_and_power(2**at.value))
    assert interval == f"{low} to {high}"
    assert float(cost.removesuffix(" nats")) == pytest.approx(axis.excess_at(256), rel=0.05)
    use = f"At width 256 use lr {rate(2**at.value)}; between {low} and {high} with 95%."
    assert found.advice == [use]


def test_without_a_target_it_is_eight_times_the_largest_width(run_of: RunOf) -> None:
    run = run_of()
    found = forecasts(run, dict(run.document.axes.items()))
    assert found.width == 8 * 128
    assert found.about.startswith(
        "No target was given (--width): 1024 is 8 times the largest fitted"
    )


def test_a_recipe_says_the_target_unless_one_is_given(run_of: RunOf) -> None:
    run = replace(run_of(), recipe=Target("recipe-512.yaml", 512))
    found = forecasts(run, dict(run.document.axes.items()))
    assert found.width == 512
    expected = "Width 512 is that of recipe-512.yaml, 4 times the largest fitted width."
    assert found.about == expected
    assert forecasts(run, dict(run.document.axes.items()), 256).width == 256


def test_an_axis_without_an_exponent_has_no_value_yet(run_of: RunOf) -> None:
    run = run_of(widths=[32])
    found = forecasts(run, {"lr": run.document.axes["lr"]})
    assert found.rows == []
    assert found.advice == ["For width 256 there is no best learning rate yet."]


def test_absurd_forecasts_stay_readable_and_are_no_advice(run_of: RunOf) -> None:
    run = run_of()
    axis = run.document.axes["lr"]
    assert axis.exponent is not None
    steep = axis.exponent.model_copy(update={"low": -500.0, "value": -400.0, "high": -300.0})
    found = forecasts(run, {"lr": axis.model_copy(update={"exponent": steep})}, 2**53)
    assert math.isfinite(float(found.rows[0][1].removeprefix("2^")))
    assert found.advice == [f"For width {2**53} there is no best learning rate yet."]


def test_runs_that_were_not_fitted(run_of: RunOf) -> None:
    one = LeftOut(reason="bad_run", width=64, value=2**-5, seed="1", loss=5.25, excess=2.125)
    several = LeftOut(reason="broken", width=64, value=2**-3, seed=None, loss=4.0, excess=1.0)
    axis = run_of().document.axes["lr"].model_copy(update={"left_out": (one, several)})
    assert left_out(axis) == [
        ["64", "0.0312 (2^-5)", "1", "5.250", "2.12", "off the bowl of all others"],
        ["64", "0.125 (2^-3)", "", "4.000", "1.00", "no bowl reaches it"],
    ]
