"""Exponents fitted to best grid points."""

from __future__ import annotations

import pandas as pd
import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.optima import fit_optima, grid_spacing

WIDTHS = [32, 64, 128, 256]


def optima(*octaves: float, widths: list[int] | None = None) -> pd.DataFrame:
    return pd.DataFrame({"width": widths or WIDTHS, "lr": [2.0**x for x in octaves]})


def test_optima_on_a_line_have_its_exponent() -> None:
    fit = fit_optima(optima(-4, -5, -6, -7), "lr", 0.5)
    assert fit.exponent is not None
    assert fit.exponent.value == pytest.approx(-1)
    assert fit.sentence.endswith("grid resolution only: each optimum known to ±0.25 octave")
    assert fit.optimum[64].octaves == pytest.approx((-5.25, -5, -4.75))
    assert fit.optimum[64].residual == pytest.approx(0, abs=1e-9)
    assert (fit.form_spread, fit.optimum[64].loss) == (None, None)


def test_the_interval_is_never_below_the_resolution_of_the_grids() -> None:
    """The variance is spacing^2 / 12 at four widths a doubling apart: 1.96 / sqrt(5) errors."""
    fit = fit_optima(optima(-4, -5, -6, -7), "lr", 0.5)
    assert fit.exponent is not None
    half_width = fit.exponent.high - fit.exponent.value
    assert half_width == pytest.approx(1.96 * 0.5 / 12**0.5 / 5**0.5, rel=1e-3)


def test_seeds_are_averaged_and_do_not_reduce_the_error() -> None:
    once = fit_optima(optima(-4, -5, -6, -7), "lr", 0.5)
    around = optima(-4.5, -3.5, -5, -5, -6, -6, -7, -7, widths=sorted(WIDTHS * 2))
    assert fit_optima(around, "lr", 0.5) == once


def test_two_widths_are_insufficient() -> None:
    fit = fit_optima(optima(-4, -5, widths=[32, 64]), "lr", 0.5)
    assert (fit.status, fit.line) == ("insufficient", None)
    assert "add at least 1 width" in fit.sentence


def test_the_spacing_is_the_smallest_gap() -> None:
    assert grid_spacing(optima(-4, -5.5, -6, -6)["lr"]) == pytest.approx(0.5)
    exact_and_rounded = pd.Series([0.0009765625, 9.77e-4, 0.00048828125, 2.44e-4], name="lr")
    assert grid_spacing(exact_and_rounded) == pytest.approx(1.0, abs=1e-3)
    with pytest.raises(InputError, match="all optima of lr of a are the same") as error:
        grid_spacing(optima(-4, -4, -4, -4)["lr"], " of a")
    assert error.value.remedy == "grid_spacing"
    with pytest.raises(InputError, match="an optimal lr of 0 has no logarithm"):
        grid_spacing(pd.Series([0.0, 1.0], name="lr"))
