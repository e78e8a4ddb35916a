"""The assumption that a law is straight, and how far further widths would test it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mutransfer_cli.fit.exponents import Axis, Line
from mutransfer_cli.fit.law import fit_forms, paule_mandel
from mutransfer_cli.fit.optimum import Optimum
from mutransfer_cli.recipe.straightness import is_assumed, reach_of, straightness_warning
from tests.fit.test_exponents import BENT, axis

ERROR = 0.03


def fit(widths: tuple[int, ...], scatter: float = 0.0, **changes: Any) -> Axis:
    """A fit whose optima are each known to ERROR octaves."""
    half_width = 1.96 * ERROR
    at = Optimum(value=1, low=2**-half_width, high=2**half_width, status="ok")
    line = Line(width=64, value=1, low=0.9, high=1.1, scatter=scatter)
    return axis(optimum=dict.fromkeys(widths, at), line=line, **changes)


FOUR = (64, 128, 256, 512)


@pytest.mark.parametrize("scatter", [0.0, 0.1])
def test_a_bend_of_that_size_is_shown_in_four_of_five_sweeps(scatter: float) -> None:
    """The line through the present widths misses the bend's optimum by the reach."""
    found = reach_of(fit(FOUR, scatter), 4096)
    assert found is not None
    assert found.widths == (1024,)
    octaves = found.scattered if scatter else found.octaves
    u, sweeps = np.log2([*FOUR, 1024]), 1000
    x, present = u - 6, slice(4)
    # a bend of 1 leaves x^2 less the line through the present widths
    apart = 6**2 - np.polyval(np.polyfit(x[present], x[present] ** 2, 1), 6)
    noise = np.random.default_rng(3).normal(0, np.hypot(ERROR, scatter), (sweeps, 5))
    y, u_GK = octaves / apart * x**2 + noise, np.tile(u, (sweeps, 1))
    covariance = np.broadcast_to(ERROR**2 * np.eye(5), (sweeps, 5, 5))
    forms = fit_forms(u_GK, y, covariance, paule_mandel(u_GK, y, covariance))
    by_bend = np.abs(forms.bend) > 4.303 * forms.bend_error
    shown = np.mean(by_bend | (np.abs(forms.fade) > forms.fade_half_width))
    assert 0.75 <= shown <= 0.88


def test_three_widths_want_two_more() -> None:
    found = reach_of(fit((64, 128, 256)), 4096)
    assert found is not None
    assert found.widths == (512, 1024)
    assert found.octaves == found.scattered


def test_more_error_or_a_farther_target_reaches_less() -> None:
    near, far = (reach_of(fit(FOUR), width) for width in (4096, 16384))
    unsure = reach_of(fit(FOUR, scatter=0.1), 4096)
    assert near is not None
    assert far is not None
    assert unsure is not None
    assert near.octaves < far.octaves
    assert unsure.octaves == near.octaves
    assert unsure.scattered == pytest.approx(near.octaves * np.hypot(ERROR, 0.1) / ERROR)


def test_exact_optima_show_every_bend() -> None:
    exact = dict.fromkeys(FOUR, Optimum(value=1, low=1, high=1, status="ok"))
    found = reach_of(fit(FOUR).model_copy(update={"optimum": exact}), 4096)
    assert found is not None
    assert found.octaves < 1e-3


def test_the_warning_names_the_width_to_add() -> None:
    assert straightness_warning("lr", fit(FOUR, scatter=0.1), 4096) == (
        "the forecast of lr at width 4096 assumes a straight line, which 4 widths cannot test: a "
        "fifth width of 1024 would show, in four of five sweeps, a bend that moves the optimum at "
        "width 4096 by more than 0.88 octaves (3.1 octaves if the optima scatter as they seem to); "
        "a smaller one would often stay unseen"
    )
    three = straightness_warning("lr", fit((64, 128, 256)), 4096)
    assert three is not None
    assert "a fourth width of 512 and a fifth width of 1024 would show" in three
    near = straightness_warning("lr", fit(FOUR), 1024)
    assert near is not None
    assert near.endswith("which 4 widths cannot test: sweep 5 widths")


def test_nothing_is_said_where_nothing_is_assumed() -> None:
    assert straightness_warning("lr", fit(FOUR), 100) is None
    assert not is_assumed(fit((*FOUR, 1024), forms=BENT), 4096)
    together = straightness_warning("lr", fit((*FOUR, 1024)), 4096)
    assert together is not None
    assert together.endswith("no other form was fitted beside it")
