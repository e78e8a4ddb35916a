"""Forecasts at a target width, and the runs that were not fitted."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from mutransfer_cli.fit.optimum import LeftOut
from mutransfer_cli.report.forecast import forecasts, left_out
from mutransfer_cli.report.run import Run
from mutransfer_cli.words import octaves

RunOf = Callable[..., Run]


def test_what_the_line_foresees(run_of: RunOf) -> None:
    run = run_of()
    axis = run.document.axes["lr"]
    found = forecasts({"lr": axis}, run.widths, run.unit, 256)
    assert (found.width, found.times, found.refused) == (256, 2.0, [])
    ((name, value, interval, cost),) = found.rows
    at = axis.at(256)
    assert name == "lr"
    assert value == f"2^{round(at.value, 2):g} ({2**at.value:.3g})"
    assert interval == f"{octaves(at.low)} to {octaves(at.high)}"
    assert float(cost.removesuffix(" nats")) == pytest.approx(axis.excess_at(256), rel=0.05)


def test_without_a_target_it_is_eight_times_the_largest_width(run_of: RunOf) -> None:
    run = run_of()
    found = forecasts(dict(run.document.axes.items()), run.widths, run.unit)
    assert (found.width, found.times) == (8 * 128, 8.0)


def test_an_axis_without_an_exponent_is_named(run_of: RunOf) -> None:
    run = run_of(widths=[32])
    found = forecasts({"lr": run.document.axes["lr"]}, run.widths, run.unit)
    assert (found.rows, found.refused) == ([], ["lr"])


def test_absurd_forecasts_stay_readable(run_of: RunOf) -> None:
    run = run_of()
    axis = run.document.axes["lr"]
    assert axis.exponent is not None
    steep = axis.exponent.model_copy(update={"low": -500.0, "value": -400.0, "high": -300.0})
    found = forecasts(
        {"lr": axis.model_copy(update={"exponent": steep})}, run.widths, run.unit, 2**53
    )
    assert found.rows[0][1].startswith("2^-")
    assert "(" not in found.rows[0][1]
    assert math.isfinite(float(found.rows[0][1].removeprefix("2^")))


def test_runs_that_were_not_fitted(run_of: RunOf) -> None:
    one = LeftOut(reason="bad_run", width=64, value=2**-5, seed="1", loss=5.25, excess=2.125)
    several = LeftOut(reason="broken", width=64, value=2**-3, seed=None, loss=4.0, excess=1.0)
    axis = run_of().document.axes["lr"].model_copy(update={"left_out": (one, several)})
    assert left_out(axis) == [
        ["64", "2^-5", "1", "5.250", "2.12", "off the bowl of all others"],
        ["64", "2^-3", "", "4.000", "1.00", "no bowl reaches it"],
    ]
