"""Forecasts of simulated sweeps: laws that saturate, bend or are straight.

Optima are drawn with the error that half-octave grids of three seeds give them, without bowls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from mutransfer_cli.fit.arrays import Array
from mutransfer_cli.fit.exponent import Details, axis_of, forms_of, law_parts, optimum_of
from mutransfer_cli.fit.exponents import Axis
from mutransfer_cli.fit.law import fit_laws

Law = Callable[[Array], Array]  # log2 optimum of log2 width

ERROR, SWEEPS, CURVATURE = 0.03, 300, 0.012  # octaves; nats per octave^2
SIX, FIVE = (64, 96, 128, 192, 256, 512), (64, 128, 256, 512, 1024)


def saturating(u: Array) -> Array:
    return -7 + 64 / 2**u


def bent(u: Array) -> Array:
    return -7 - 0.05 * (u - 6) ** 2


def straight(u: Array) -> Array:
    return -7 - 0.3 * (u - 6)


def fits(law: Law, widths: Sequence[int], scatter: float = 0.0) -> list[Axis]:
    """Fits of optima whose bowls have CURVATURE."""
    u_GK = np.tile(np.log2(widths), (SWEEPS, 1))
    noise_GK = np.random.default_rng(7).normal(0, np.hypot(ERROR, scatter), u_GK.shape)
    y_GK = law(u_GK) + noise_GK
    covariance_GKK = np.tile(ERROR**2 * np.eye(len(widths)), (SWEEPS, 1, 1))
    laws = fit_laws(u_GK, y_GK, covariance_GKK, np.full(SWEEPS, np.inf))
    used_K, found = np.ones(len(widths), dtype=bool), []
    for g, y_K in enumerate(y_GK):
        forms = forms_of(used_K, u_GK[g], y_K, covariance_GKK[g], laws, g)
        optimum = {
            width: optimum_of(y, y - 2 * ERROR, y + 2 * ERROR, curvature=CURVATURE, tilt=0.0)
            for width, y in zip(widths, y_K, strict=True)
        }
        law_of = law_parts(laws, g, None) | {"forms": forms}
        found.append(axis_of("lr", optimum, law_of, Details(counts={})))
    return found


def without_forms(fit: Axis) -> Axis:
    return fit.model_copy(update={"forms": None})


def held(found: Sequence[Axis], law: Law, width: int) -> float:
    truth = float(law(np.array(np.log2(width))))
    return float(np.mean([fit.at(width).low <= truth <= fit.at(width).high for fit in found]))


def costs(found: Sequence[Axis], law: Law, width: int) -> tuple[float, float]:
    """Mean stated and mean real cost of the line's value."""
    truth = float(law(np.array(np.log2(width))))
    stated = np.mean([fit.excess_at(width) for fit in found])
    return float(stated), float(
        np.mean([CURVATURE * (fit.at(width).value - truth) ** 2 for fit in found])
    )


@pytest.mark.parametrize("widths", [SIX, FIVE])
def test_a_law_that_saturates_is_forecast_honestly(widths: tuple[int, ...]) -> None:
    found = fits(saturating, widths)
    assert np.mean(["law_bends" in fit.warnings for fit in found]) >= 0.9
    for times in (8, 32):
        width = times * widths[-1]
        assert held(found, saturating, width) >= 0.93
        assert held([*map(without_forms, found)], saturating, 32 * widths[-1]) < 0.8
        stated, real = costs(found, saturating, width)
        assert real <= stated <= 10 * real
        too_small, _ = costs([*map(without_forms, found)], saturating, width)
        assert too_small < real / 4


def test_a_law_that_bends_is_forecast_honestly_where_it_is_told() -> None:
    found = [fit for fit in fits(bent, FIVE) if fit.forms and fit.forms.bends]
    assert len(found) >= 0.75 * SWEEPS
    for width in (8192, 32768):
        assert held(found, bent, width) >= 0.95
        stated, real = costs(found, bent, width)
        assert 0.8 * real <= stated <= 2 * real
        assert held([*map(without_forms, found)], bent, width) < 0.05


@pytest.mark.parametrize("scatter", [0.0, 0.1])
def test_a_straight_law_is_forecast_as_by_the_line_alone(scatter: float) -> None:
    found = fits(straight, SIX, scatter)
    told = [fit for fit in found if "law_bends" in fit.warnings]
    assert len(told) <= 0.06 * SWEEPS
    for fit in found:
        same = fit.at(4096) == without_forms(fit).at(4096)
        assert same or fit in told
        assert fit.excess_at(4096) == without_forms(fit).excess_at(4096) or fit in told
    if not scatter:
        stated, real = costs(found, straight, 4096)
        assert real <= stated <= 2 * real
