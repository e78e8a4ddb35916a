"""Across widths: the line of log2 optimum against log2 width, with scatter between widths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import optimize, stats

Array = npt.NDArray[np.float64]

MIN_WIDTHS = 3
EXACT = 1e-6  # octaves; losses without noise would weigh infinitely


@dataclass(frozen=True)
class Law:
    """log2 optimum = value + exponent * (log2 width - centre), log2 units.

    Attributes:
        exponent, half_width: the slope and half its interval.
        centre: log2 width at which slope and value are uncorrelated.
        value, value_half_width: the line at the centre.
        scatter: sd of the true optima about the line beyond their measurement error, octaves.
        widths: number of widths.
    """

    exponent: float
    half_width: float
    centre: float
    value: float
    value_half_width: float
    scatter: float
    widths: int


def fit_law(
    log2_width: Array, optimum: Array, standard_error: Array, freedom: float, level: float
) -> Law:
    """Random-scatter regression with a Knapp-Hartung interval.

    Scatter tau by Paule-Mandel: the weighted residual sum of squares Q equals k - 2. Interval
    t(k-2) * sqrt(Q / (k-2) * c), c the slope's unscaled variance (Knapp & Hartung 2003), never
    narrower than the measurement error alone: without that floor, optima that line up by chance
    get absurd intervals.

    Args:
        log2_width, optimum, standard_error: one entry a width, at least MIN_WIDTHS.
        freedom: degrees of freedom behind the standard errors.
        level: of the interval, 0.95 for 95 %.
    """
    k = log2_width.size
    assert k >= MIN_WIDTHS, "callers refuse fewer widths"
    variance = np.maximum(standard_error, EXACT) ** 2
    scatter = _paule_mandel(log2_width, optimum, variance)
    line = _weighted_line(log2_width, optimum, 1 / (variance + scatter**2))
    exact = _weighted_line(log2_width, optimum, 1 / variance)
    spread = np.sqrt(line.squares / (k - 2))
    law_t = float(stats.t.ppf(0.5 + level / 2, k - 2)) * spread
    floor_t = float(stats.t.ppf(0.5 + level / 2, freedom))
    return Law(
        exponent=line.slope,
        half_width=max(law_t * line.slope_error, floor_t * exact.slope_error),
        centre=line.centre,
        value=line.value,
        value_half_width=max(law_t * line.value_error, floor_t * exact.value_error),
        scatter=scatter,
        widths=int(k),
    )


@dataclass(frozen=True)
class _Line:
    centre: float
    value: float
    slope: float
    value_error: float
    slope_error: float
    squares: float


def _weighted_line(u: Array, y: Array, weight: Array) -> _Line:
    centre = float(weight @ u / weight.sum())
    value = float(weight @ y / weight.sum())
    information = float(weight @ (u - centre) ** 2)
    slope = float(weight @ ((u - centre) * (y - value)) / information)
    residual = y - value - slope * (u - centre)
    return _Line(
        centre=centre,
        value=value,
        slope=slope,
        value_error=float(weight.sum() ** -0.5),
        slope_error=information**-0.5,
        squares=float(weight @ residual**2),
    )


def _paule_mandel(u: Array, y: Array, variance: Array) -> float:
    def excess(scatter: float) -> float:
        return _weighted_line(u, y, 1 / (variance + scatter**2)).squares - (u.size - 2)

    if excess(0.0) <= 0:
        return 0.0
    upper = float(np.ptp(y)) + 1.0
    while excess(upper) > 0:
        upper *= 2
    return float(optimize.brentq(excess, 0.0, upper))
