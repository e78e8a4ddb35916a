"""Losses at transferred values, and the figures of one hyperparameter."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from mutransfer_cli.fit.optimum import Optimum
from mutransfer_cli.report.axis import figures, interpolated, transferred
from mutransfer_cli.report.run import Run
from mutransfer_cli.words import rate, rate_and_power
from tests.report.runs import bowl

RunOf = Callable[..., Run]
PARABOLA = {x: 2 + 0.5 * (x - 0.25) ** 2 for x in (-2.0, -1.0, 0.0, 1.0, 2.0)}


def optimum(log2: float) -> Optimum:
    value = 2**log2
    return Optimum(value=value, low=value / 2, high=value * 2, status="ok")


@pytest.mark.parametrize("at", [-2.0, -0.6, 0.25, 1.0, 2.0])
def test_a_parabola_is_interpolated_exactly(at: float) -> None:
    assert interpolated(PARABOLA, at) == pytest.approx(2 + 0.5 * (at - 0.25) ** 2)


def test_nothing_is_extrapolated_or_taken_beside_a_divergence() -> None:
    assert interpolated(PARABOLA, 2.1) is None
    assert interpolated({0.0: 1.0, 1.0: 2.0}, 0.5) is None
    diverged = PARABOLA | {1.0: math.inf}
    assert interpolated(diverged, 0.6) is None
    assert interpolated(diverged, -1.0) == pytest.approx(PARABOLA[-1.0])


def test_the_narrowest_optimum_is_carried_by_the_rule() -> None:
    bowls = {16: PARABOLA, 64: PARABOLA, 256: PARABOLA}
    usable = {16: optimum(0.25), 64: optimum(0.75), 256: optimum(0.25)}
    found = transferred(bowls, usable, expected=0.5)  # 1 octave up at width 64, 2 at 256
    assert [*found] == [16, 64], "2.25 lies outside the cells of width 256"
    assert found[16] == pytest.approx((2.0, 2.0))
    assert found[64] == pytest.approx((2.5, 2.125))


def test_a_sweep_beside_its_optimum_has_bowls_only(run_of: RunOf) -> None:
    run = run_of(rates=[2**-2, 2**-1, 1.0, 2.0])
    (drawn,) = figures(run, "lr", run.document.axes["lr"])
    assert drawn.key == "bowls-lr"


def test_a_transferred_value_beside_divergence_has_no_figure(run_of: RunOf) -> None:
    def loss(width: int, lr: float, decay: float, seed: int) -> float | None:
        above = math.log2(lr) + 6 - 2 * math.log2(width / 32)  # octaves above the width's optimum
        return bowl(width, lr, 1.0, seed, drift=2.0) if -2.5 < above < 4 else None

    run = run_of(loss=loss, rates=[2.0**x for x in range(-12, 3)])
    drawn = figures(run, "lr", run.document.axes["lr"])
    assert [one.key for one in drawn] == ["bowls-lr", "optima-lr"]


def test_without_losses_there_are_optima_alone(run_of: RunOf) -> None:
    run = run_of()
    alone = replace(run, trials=run.trials.drop(columns="eval_loss"))
    assert [one.key for one in figures(alone, "lr", run.document.axes["lr"])] == ["optima-lr"]


def test_optima_show_their_values_on_hover(run_of: RunOf) -> None:
    run = run_of()
    _, optima, losses = figures(run, "lr", run.document.axes["lr"])
    shown = re.findall(r"<title>([^<]*)</title>", optima.inline())
    assert shown[0] == run.document.axes["lr"].sentence
    at = run.document.axes["lr"].optimum[128]
    assert shown[-1].startswith(f"width 128, best lr {rate_and_power(at.value)}, {rate(at.low)} to")
    assert len(shown) == 1 + 4
    shown = re.findall(r"<title>([^<]*)</title>", losses.inline())
    assert shown[0].startswith("width 16: 2.49")
    assert shown[0].endswith(" at its own optimum")


def test_powers_stand_over_their_decimals(run_of: RunOf) -> None:
    run = run_of()
    bowls, optima, _ = figures(run, "lr", run.document.axes["lr"])
    for one in (bowls, optima):
        drawing = one.inline()
        assert ">2⁻⁶</" in drawing
        assert ">0.0156</" in drawing
