"""Across widths: the line of log2 optimum against log2 width, with scatter between widths.

Shapes: G fits at once, K widths. Everything in log2 units (octaves).

MERGED:
Across widths: two forms beside the straight line, to show how far a prediction depends on it.

Shapes: G fits at once, K widths, P coefficients. Everything in log2 units (octaves).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

MIN_WIDTHS = 3
BISECTIONS = 60
EXACT = 1e-12  # octaves^2; losses without noise would weigh infinitely


@dataclass(frozen=True)
class Laws:
    """optimum = value + exponent * (log2 width - centre); all [G], log2 units.

    Attributes:
        exponent: the slope.
        law_half_width: of the slope for widths like these, scatter included.
        measurement_half_width: of the slope of the optima of exactly these widths.
        half_width: what is reported, the larger of the two.
        centre: log2 width at which value and slope are uncorrelated.
        value, value_half_width: the line at the centre.
        scatter: sd of the true optima about the line beyond their measurement error, octaves.
        without_largest: the slope without the largest width; NaN with MIN_WIDTHS.
        future_centre, future_half_width, future_per_octave: one future optimum lies within
            hypot(half_width, per_octave * (log2 width - centre)), its own scatter included.
        future_quantile: how many standard errors that is.
    """

    exponent: Array
    law_half_width: Array
    measurement_half_width: Array
    half_width: Array
    centre: Array
    value: Array
    value_half_width: Array
    scatter: Array
    without_largest: Array
    future_centre: Array
    future_half_width: Array
    future_per_octave: Array
    future_quantile: Array


def fit_laws(
    log2_width: Array, optimum: Array, covariance: Array, freedom: Array, level: float
) -> Laws:
    """Random-scatter regression with a Knapp-Hartung interval (Knapp & Hartung 2003).

    Scatter tau by Paule-Mandel: the generalised residual sum of squares Q equals K - 2. Half-width
    t(K-2) * sqrt(Q / (K-2) * c), c the slope's unscaled variance, never narrower than the
    measurement error alone: without that floor optima that line up by chance get absurd intervals.

    Args:
        log2_width, optimum: [G, K], K at least MIN_WIDTHS.
        covariance: of the optima's measurement errors, [G, K, K].
        freedom: degrees of freedom behind it, [G]; infinite for known errors.
        level: of the intervals, 0.95 for 95 %.
    """
    k = log2_width.shape[1]
    assert k >= MIN_WIDTHS, "callers refuse fewer widths"
    covariance = covariance + EXACT * np.eye(k)
    scatter = paule_mandel(log2_width, optimum, covariance)
    line = weighted_line(log2_width, optimum, with_scatter(covariance, scatter))
    exact = weighted_line(log2_width, optimum, covariance)
    law_t = stats.t.ppf(0.5 + level / 2, k - 2) * np.sqrt(line.squares / (k - 2))
    floor_t = stats.t.ppf(0.5 + level / 2, freedom)
    law, measurement = law_t * line.slope_error, floor_t * exact.slope_error
    return Laws(
        exponent=line.slope,
        law_half_width=law,
        measurement_half_width=measurement,
        half_width=np.maximum(law, measurement),
        centre=line.centre,
        value=line.value,
        value_half_width=np.maximum(law_t * line.value_error, floor_t * exact.value_error),
        scatter=scatter,
        without_largest=slope_without_largest(log2_width, optimum, covariance),
        **future_spread(log2_width, optimum, covariance, level),
    )


def slope_without_largest(u: Array, y: Array, covariance: Array) -> Array:
    """[G]; NaN where MIN_WIDTHS would not be left."""
    if u.shape[1] <= MIN_WIDTHS:
        return np.full(len(u), np.nan)
    rest = np.argsort(u, axis=1)[:, :-1]
    fewer_u, fewer_y = (np.take_along_axis(values, rest, axis=1) for values in (u, y))
    fewer = np.take_along_axis(covariance, rest[:, :, None], axis=1)
    fewer = np.take_along_axis(fewer, rest[:, None, :], axis=2)
    scatter = paule_mandel(fewer_u, fewer_y, fewer)
    return weighted_line(fewer_u, fewer_y, with_scatter(fewer, scatter)).slope


LawFit = Callable[[Array, Array, Array, Array], Laws]


def laws_where(
    rows: Mask,
    used: Mask,
    log2_width: Array,
    optimum: Array,
    covariance: Array,
    freedom: Array,
    fit: LawFit,
) -> Laws:
    """The laws of the chosen rows [G] from their used widths [G, K], NaN in the others.

    Args:
        fit: of stacked sweeps that use the same widths, such as `fit_laws` at a level.
    """
    found = {field.name: np.full(len(used), np.nan) for field in fields(Laws)}
    for pattern in np.unique(used[rows], axis=0):
        at, widths = np.flatnonzero(rows & (used == pattern).all(1)), np.flatnonzero(pattern)
        grid, square = np.ix_(at, widths), np.ix_(at, widths, widths)
        laws = fit(log2_width[grid], optimum[grid], covariance[square], freedom[at])
        for name, values in found.items():
            values[at] = getattr(laws, name)
    return Laws(**found)


@dataclass(frozen=True)
class Lines:
    """Generalised least squares; all [G]. `squares` is r' V^-1 r."""

    centre: Array
    value: Array
    slope: Array
    value_error: Array
    slope_error: Array
    squares: Array


def weighted_line(u: Array, y: Array, covariance: Array) -> Lines:
    """The line through y [G, K] over u [G, K] with error covariance [G, K, K]."""
    ones = np.ones_like(u)
    weight_1, weight_u, weight_y = np.moveaxis(
        np.linalg.solve(covariance, np.stack([ones, u, y], axis=-1)), -1, 0
    )
    total = weight_1.sum(1)
    centre, value = (weight_1 * u).sum(1) / total, (weight_1 * y).sum(1) / total
    from_centre = u - centre[:, None]
    weight_centred = weight_u - centre[:, None] * weight_1
    information = (weight_centred * from_centre).sum(1)
    slope = (weight_centred * y).sum(1) / information
    residual = y - value[:, None] - slope[:, None] * from_centre
    weighted = weight_y - value[:, None] * weight_1 - slope[:, None] * weight_centred
    return Lines(
        centre=centre,
        value=value,
        slope=slope,
        value_error=total**-0.5,
        slope_error=information**-0.5,
        squares=(weighted * residual).sum(1),
    )


def plain_slope(u: Array, y: Array, covariance: Array, used: Mask) -> tuple[Array, Array]:
    """Unweighted slope of y over u, [G, K], and its standard error under a covariance; [G] each."""
    mean = (u * used).sum(1, keepdims=True) / np.maximum(used.sum(1, keepdims=True), 1)
    centred = np.where(used, u - mean, 0.0)
    spread = (centred**2).sum(1, keepdims=True)
    gain = centred / np.where(spread > 0, spread, 1.0)
    variance = np.einsum("gi,gij,gj->g", gain, covariance, gain)
    return (gain * np.where(used, y, 0.0)).sum(1), np.sqrt(variance)


def with_scatter(covariance: Array, scatter: Array) -> Array:
    diagonal: Array = np.eye(covariance.shape[-1]) * scatter[:, None, None] ** 2
    return covariance + diagonal


def paule_mandel(u: Array, y: Array, covariance: Array) -> Array:
    """The scatter [G] at which the residual sum of squares is its expectation; 0 if never above."""
    expected = u.shape[1] - 2
    low, high = np.zeros(len(u)), 2 * np.ptp(y, axis=1) + 1
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        above = weighted_line(u, y, with_scatter(covariance, middle)).squares > expected
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    none = weighted_line(u, y, covariance).squares <= expected
    return np.where(none, 0.0, (low + high) / 2)


def future_spread(
    log2_width: Array, optimum: Array, covariance: Array, level: float
) -> dict[str, Array]:
    """Prediction half-widths of one future optimum, by name in Laws.

    t(K-2) * sqrt(max(s^2, C) (1/K + (u - mean u)^2 / Suu) + max(s^2 - C, 0)), with s^2 the
    residual variance about the plain line and C the mean measurement variance.
    """
    u, y = log2_width, optimum
    k = u.shape[1]
    plain = weighted_line(u, y, np.broadcast_to(np.eye(k), (len(u), k, k)))
    residual = plain.squares / (k - 2)
    measured = np.diagonal(covariance, axis1=1, axis2=2).mean(1)
    line = np.maximum(residual, measured)
    t = float(stats.t.ppf(0.5 + level / 2, k - 2))
    own = np.maximum(residual - measured, 0)
    return {
        "future_centre": plain.centre,
        "future_half_width": t * np.sqrt(line / k + own),
        "future_per_octave": t * np.sqrt(line) * plain.slope_error,
        "future_quantile": np.full(len(u), t),
    }


MIN_WIDTHS_OF_FORMS = 5


@dataclass(frozen=True)
class FormFits:
    """log2 optimum at x = log2 width - centre by two forms; all [G], log2 units.

    curved: value + exponent * x + bend * x^2.
    saturating: limit + drift * 2^-x.

    Attributes:
        centre: mean log2 width.
        exponent: the slope at the centre.
        bend: half the change of the slope per octave of width.
        bend_error: standard error, of K - 3 degrees of freedom.
        limit: at infinite width.
        drift: how far the optimum at the centre lies from the limit.
        drift_error: standard error, of K - 2 degrees of freedom.
    """

    centre: Array
    value: Array
    exponent: Array
    bend: Array
    bend_error: Array
    limit: Array
    drift: Array
    drift_error: Array


def fit_forms(log2_width: Array, optimum: Array, covariance: Array, scatter: Array) -> FormFits:
    """A parabola, and the c / n drift of an optimum that transfers (arXiv 2505.02222).

    Args:
        log2_width, optimum: [G, K], K at least MIN_WIDTHS_OF_FORMS.
        covariance: of the optima's measurement errors, [G, K, K].
        scatter: of the optima about the straight line, [G]. It only weighs the widths: it contains
            the bend, so the errors are scaled by the residuals of the form.
    """
    k = log2_width.shape[1]
    assert k >= MIN_WIDTHS_OF_FORMS, "callers refuse fewer widths"
    covariance = covariance + EXACT * np.eye(k)
    centre = log2_width.mean(1)
    x = log2_width - centre[:, None]
    ones = np.ones_like(x)
    curved, curved_error = _least_squares([ones, x, x**2], optimum, covariance, scatter)
    saturating, saturating_error = _least_squares([ones, 2.0**-x], optimum, covariance, scatter)
    return FormFits(
        centre=centre,
        value=curved[:, 0],
        exponent=curved[:, 1],
        bend=curved[:, 2],
        bend_error=curved_error[:, 2],
        limit=saturating[:, 0],
        drift=saturating[:, 1],
        drift_error=saturating_error[:, 1],
    )


def _least_squares(
    columns: list[Array], y: Array, covariance: Array, scatter: Array
) -> tuple[Array, Array]:
    """Coefficients and standard errors, [G, P], of y [G, K] on columns of [G, K] each.

    Standard errors as of the line's slope: sqrt(Q / (K - P)) times that of V = covariance +
    scatter^2 I, Q = r' V^-1 r (Knapp & Hartung 2003), never below that of the measurement alone.
    """
    z = np.stack(columns, axis=-1)
    gain, variance = _gain(z, with_scatter(covariance, scatter))
    coefficient = np.einsum("gpk,gk->gp", gain, y)
    residual = y - np.einsum("gkp,gp->gk", z, coefficient)
    weighted = np.linalg.solve(with_scatter(covariance, scatter), residual[..., None])[..., 0]
    scale = (residual * weighted).sum(1) / (z.shape[1] - z.shape[2])
    _, measurement = _gain(z, covariance)
    return coefficient, np.sqrt(np.maximum(scale[:, None] * variance, measurement))


def _gain(z: Array, covariance: Array) -> tuple[Array, Array]:
    """(Z' V^-1 Z)^-1 Z' V^-1, [G, P, K], and the diagonal of (Z' V^-1 Z)^-1, [G, P]."""
    weighted = np.swapaxes(np.linalg.solve(covariance, z), 1, 2)
    inverse = np.linalg.inv(weighted @ z)
    return np.einsum("gpq,gqk->gpk", inverse, weighted), np.einsum("gpp->gp", inverse)
