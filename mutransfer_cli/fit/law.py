"""The line of log2 optimum against log2 width, with scatter, and two forms beside it.

    optimum = value + exponent * (log2 width - centre) + scatter + measurement error

The forms show how far a prediction depends on the line being straight.
Shapes: G fits at once, K widths, P coefficients. Everything in octaves (log2 units).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from mutransfer_cli.fit.arrays import Array, Mask, t_quantile
from mutransfer_cli.fit.forms import MIN_WIDTHS_OF_FORMS
from mutransfer_cli.fit.optimum import EXACT

MIN_WIDTHS = 3
BISECTIONS = 60
FADE_LEVEL = 0.975  # stricter than LEVEL, as a second look at whether a line is straight


@dataclass(frozen=True)
class Laws:
    """The lines of G fits: optimum = value + exponent * (log2 width - centre); all [G], octaves."""

    exponent: Array
    """Slope."""
    law_half_width: Array
    """Half-width of the slope for widths like these, scatter included."""
    measurement_half_width: Array
    """Half-width of the slope for exactly these widths, without scatter."""
    half_width: Array
    """Reported half-width: the larger of the two."""
    centre: Array
    """log2 width at which value and slope are uncorrelated."""
    value: Array
    """The line at the centre."""
    value_half_width: Array
    """Half-width of the line at the centre."""
    scatter: Array
    """Sd of the true optima about the line, beyond their measurement error."""
    without_largest: Array
    """Slope without the largest width; NaN with MIN_WIDTHS."""
    future_centre: Array
    """log2 width at which a prediction is narrowest."""
    future_half_width: Array
    """One future optimum lies, its own scatter included, within hypot(future_half_width,
    future_per_octave * (log2 width - future_centre))."""
    future_per_octave: Array
    """See future_half_width."""
    future_quantile: Array
    """Standard errors in that half-width."""

    def residual(self, g: int, width: int, log2_optimum: float) -> float | None:
        """Octaves by which an optimum lies above the line of fit g; None where there is no line."""
        if np.isnan(self.exponent[g]):
            return None
        along = float(self.exponent[g]) * (math.log2(width) - float(self.centre[g]))
        return log2_optimum - (float(self.value[g]) + along)


LawFit = Callable[[Array, Array, Array, Array], Laws]  # the arguments of `fit_laws`


def fit_laws(u_GK: Array, y_GK: Array, covariance_GKK: Array, freedom_G: Array) -> Laws:
    """Random-scatter regression with a Knapp-Hartung interval (Knapp & Hartung 2003).

    The scatter is that of Paule & Mandel (1982): the generalised residual sum of squares Q equals
    its expectation K - 2. Half-width t(K-2) * sqrt(Q / (K-2) * c), with c the slope's unscaled
    variance, and never narrower than the measurement error alone: without that floor, optima that
    line up by chance would get absurd intervals.

    Args:
        u_GK: log2 width; K is at least MIN_WIDTHS.
        y_GK: log2 optimum.
        covariance_GKK: covariance of the measurement errors of the optima.
        freedom_G: degrees of freedom behind it; infinite for known errors.
    """
    k = u_GK.shape[1]
    assert k >= MIN_WIDTHS, "callers refuse fewer widths"
    covariance_GKK = covariance_GKK + EXACT * np.eye(k)
    # the line with scatter, V = covariance + scatter^2 I, and without
    scatter_G = paule_mandel(u_GK, y_GK, covariance_GKK)
    line = weighted_line(u_GK, y_GK, with_scatter(covariance_GKK, scatter_G))
    exact = weighted_line(u_GK, y_GK, covariance_GKK)
    # Knapp-Hartung: the error scaled by sqrt(Q / (K - 2)); the floor is the measurement alone
    law_t = t_quantile(k - 2) * np.sqrt(line.squares / (k - 2))
    floor_t = t_quantile(freedom_G)
    law, measurement = law_t * line.slope_error, floor_t * exact.slope_error
    return Laws(
        exponent=line.slope,
        law_half_width=law,
        measurement_half_width=measurement,
        half_width=np.maximum(law, measurement),
        centre=line.centre,
        value=line.value,
        value_half_width=np.maximum(law_t * line.value_error, floor_t * exact.value_error),
        scatter=scatter_G,
        without_largest=slope_without_largest(u_GK, y_GK, covariance_GKK),
        **future_spread(u_GK, y_GK, covariance_GKK),
    )


def laws_where(
    rows_G: Mask,
    used_GK: Mask,
    u_GK: Array,
    y_GK: Array,
    covariance_GKK: Array,
    freedom_G: Array,
    fit: LawFit,
) -> Laws:
    """The laws of the chosen rows from their used widths; NaN in the other rows."""
    found = {field.name: np.full(len(used_GK), np.nan) for field in fields(Laws)}
    # sweeps that use the same widths form one stack
    for pattern_K in np.unique(used_GK[rows_G], axis=0):
        at = np.flatnonzero(rows_G & (used_GK == pattern_K).all(1))
        widths = np.flatnonzero(pattern_K)
        grid, square = np.ix_(at, widths), np.ix_(at, widths, widths)
        laws = fit(u_GK[grid], y_GK[grid], covariance_GKK[square], freedom_G[at])
        for name, values_G in found.items():
            values_G[at] = getattr(laws, name)
    return Laws(**found)


@dataclass(frozen=True)
class Lines:
    """Generalised least squares; all [G]. `squares` is Q = r' V^-1 r of the residuals r."""

    centre: Array
    value: Array
    slope: Array
    value_error: Array
    slope_error: Array
    squares: Array


def weighted_line(u_GK: Array, y_GK: Array, covariance_GKK: Array) -> Lines:
    """The line through y over u under the error covariance V (Aitken 1936)."""
    # V^-1 1, V^-1 u and V^-1 y in one solve
    columns_GKP = np.stack([np.ones_like(u_GK), u_GK, y_GK], axis=-1)
    solved_PGK = np.moveaxis(np.linalg.solve(covariance_GKK, columns_GKP), -1, 0)
    weight_1_GK, weight_u_GK, weight_y_GK = solved_PGK
    # about the centre 1' V^-1 u / 1' V^-1 1, value and slope are uncorrelated
    total_G = weight_1_GK.sum(1)
    centre_G = (weight_1_GK * u_GK).sum(1) / total_G
    value_G = (weight_1_GK * y_GK).sum(1) / total_G
    from_centre_GK = u_GK - centre_G[:, None]
    weight_centred_GK = weight_u_GK - centre_G[:, None] * weight_1_GK
    information_G = (weight_centred_GK * from_centre_GK).sum(1)
    slope_G = (weight_centred_GK * y_GK).sum(1) / information_G
    residual_GK = y_GK - value_G[:, None] - slope_G[:, None] * from_centre_GK
    # V^-1 r, from the solved columns
    weighted_GK = (
        weight_y_GK - value_G[:, None] * weight_1_GK - slope_G[:, None] * weight_centred_GK
    )
    return Lines(
        centre=centre_G,
        value=value_G,
        slope=slope_G,
        value_error=total_G**-0.5,
        slope_error=information_G**-0.5,
        squares=(weighted_GK * residual_GK).sum(1),
    )


def with_scatter(covariance_GKK: Array, scatter_G: Array) -> Array:
    """V = covariance + scatter^2 I."""
    return np.asarray(
        covariance_GKK + np.eye(covariance_GKK.shape[-1]) * scatter_G[:, None, None] ** 2
    )


def paule_mandel(u_GK: Array, y_GK: Array, covariance_GKK: Array) -> Array:
    """The scatter [G] at which Q equals its expectation K - 2, by bisection; 0 if Q never exceeds
    it (Paule & Mandel 1982)."""
    expected = u_GK.shape[1] - 2
    # Q falls with the scatter; at the upper end it lies below K - 2
    low_G, high_G = np.zeros(len(u_GK)), 2 * np.ptp(y_GK, axis=1) + 1
    for _ in range(BISECTIONS):
        middle_G = (low_G + high_G) / 2
        spread_GKK = with_scatter(covariance_GKK, middle_G)
        above_G = weighted_line(u_GK, y_GK, spread_GKK).squares > expected
        low_G, high_G = np.where(above_G, middle_G, low_G), np.where(above_G, high_G, middle_G)
    none_G = weighted_line(u_GK, y_GK, covariance_GKK).squares <= expected
    return np.where(none_G, 0.0, (low_G + high_G) / 2)


def slope_without_largest(u_GK: Array, y_GK: Array, covariance_GKK: Array) -> Array:
    """The slope [G] without the largest width; NaN where MIN_WIDTHS would not be left."""
    if u_GK.shape[1] <= MIN_WIDTHS:
        return np.full(len(u_GK), np.nan)
    # covariance without the row and the column of the largest width, [G, K-1, K-1]
    rest = np.argsort(u_GK, axis=1)[:, :-1]
    fewer_u, fewer_y = (np.take_along_axis(values, rest, axis=1) for values in (u_GK, y_GK))
    fewer = np.take_along_axis(covariance_GKK, rest[:, :, None], axis=1)
    fewer = np.take_along_axis(fewer, rest[:, None, :], axis=2)
    scatter_G = paule_mandel(fewer_u, fewer_y, fewer)
    return weighted_line(fewer_u, fewer_y, with_scatter(fewer, scatter_G)).slope


def future_spread(u_GK: Array, y_GK: Array, covariance_GKK: Array) -> dict[str, Array]:
    """Prediction half-widths of one future optimum, by name in Laws.

    t(K-2) * sqrt(max(s^2, C) (1/K + (u - mean u)^2 / Suu) + max(s^2 - C, 0)), with s^2 the
    residual variance about the plain line, C the mean measurement variance, and Suu the sum of
    squares of u about its mean.
    """
    g, k = u_GK.shape
    plain = weighted_line(u_GK, y_GK, np.broadcast_to(np.eye(k), (g, k, k)))
    # s^2 and C of the formula, and the part of s^2 that is true scatter
    residual_G = plain.squares / (k - 2)
    measured_G = np.diagonal(covariance_GKK, axis1=1, axis2=2).mean(1)
    line_G = np.maximum(residual_G, measured_G)
    own_G = np.maximum(residual_G - measured_G, 0)
    t = t_quantile(k - 2)
    return {
        "future_centre": plain.centre,
        "future_half_width": t * np.sqrt(line_G / k + own_G),
        "future_per_octave": t * np.sqrt(line_G) * plain.slope_error,
        "future_quantile": np.full(g, t),
    }


def plain_slope(
    u_GK: Array, y_GK: Array, covariance_GKK: Array, used_GK: Mask
) -> tuple[Array, Array]:
    """Unweighted slope of y over u and its standard error under a covariance; [G] each."""
    counted_G1 = np.maximum(used_GK.sum(1, keepdims=True), 1)
    mean_G1 = (u_GK * used_GK).sum(1, keepdims=True) / counted_G1
    centred_GK = np.where(used_GK, u_GK - mean_G1, 0.0)
    spread_G1 = (centred_GK**2).sum(1, keepdims=True)
    # slope = gain' y, so that its variance is gain' V gain
    gain_GK = centred_GK / np.where(spread_G1 > 0, spread_G1, 1.0)
    variance_G = np.einsum("gi,gij,gj->g", gain_GK, covariance_GKK, gain_GK)
    return (gain_GK * np.where(used_GK, y_GK, 0.0)).sum(1), np.sqrt(variance_G)


@dataclass(frozen=True)
class FormFits:
    """log2 optimum at x = log2 width - centre by two forms; all [G], octaves.

    curved: value + exponent * x + bend * x^2.
    saturating: limit + drift * 2^-x.
    """

    centre: Array
    """Mean log2 width."""
    value: Array
    """Curved form at the centre."""
    exponent: Array
    """Slope of the curved form at the centre."""
    bend: Array
    """Half the change of that slope per octave of width."""
    bend_error: Array
    """Standard error of bend, of K - 3 degrees of freedom."""
    limit: Array
    """Saturating form at infinite width."""
    drift: Array
    """How far the optimum at the centre lies from the limit."""
    drift_error: Array
    """Standard error of drift, of K - 2 degrees of freedom."""
    fade: Array
    """Coefficient of 2^-x beside a line, which tells a fading drift from a line."""
    fade_half_width: Array
    """Half-width of fade at FADE_LEVEL, of K - 3 degrees of freedom."""
    curved_squares: Array
    """[G, 5]: see `future_squares`."""
    saturating_squares: Array
    """[G, 3]: see `future_squares`; NaN where the form leaves larger residuals than the line."""


def fit_forms(u_GK: Array, y_GK: Array, covariance_GKK: Array, scatter_G: Array) -> FormFits:
    """A parabola, and the c / n drift of an optimum that transfers (arXiv 2505.02222).

    Args:
        u_GK: log2 width; K is at least MIN_WIDTHS_OF_FORMS.
        y_GK: log2 optimum.
        covariance_GKK: covariance of the measurement errors of the optima.
        scatter_G: scatter of the optima about the straight line. It only weighs the widths: it
            contains the bend, so the errors are scaled by the residuals of the form.
    """
    k = u_GK.shape[1]
    assert k >= MIN_WIDTHS_OF_FORMS, "callers refuse fewer widths"
    covariance_GKK = covariance_GKK + EXACT * np.eye(k)
    centre_G = u_GK.mean(1)
    # columns 1, x, x^2 of the curved form and 1, 2^-x of the saturating one
    x_GK = u_GK - centre_G[:, None]
    at = (y_GK, covariance_GKK, scatter_G)
    ones_GK, fading_GK = np.ones_like(x_GK), 2.0**-x_GK
    curved_GP, curved_error_GP = _least_squares([ones_GK, x_GK, x_GK**2], *at)
    fading_GP, fading_error_GP = _least_squares([ones_GK, fading_GK], *at)
    beside_GP, beside_error_GP = _least_squares([ones_GK, x_GK, fading_GK], *at)
    _, line_G = future_squares(x_GK, 2, y_GK, covariance_GKK)
    curved_G5, _ = future_squares(x_GK, 3, y_GK, covariance_GKK)
    saturating_G3, residual_G = future_squares(fading_GK, 2, y_GK, covariance_GKK)
    return FormFits(
        centre=centre_G,
        value=curved_GP[:, 0],
        exponent=curved_GP[:, 1],
        bend=curved_GP[:, 2],
        bend_error=curved_error_GP[:, 2],
        limit=fading_GP[:, 0],
        drift=fading_GP[:, 1],
        drift_error=fading_error_GP[:, 1],
        fade=beside_GP[:, 2],
        fade_half_width=t_quantile(k - 3, FADE_LEVEL) * beside_error_GP[:, 2],
        curved_squares=curved_G5,
        saturating_squares=np.where((residual_G <= line_G)[:, None], saturating_G3, np.nan),
    )


def future_squares(
    s_GK: Array, terms: int, y_GK: Array, covariance_GKK: Array
) -> tuple[Array, Array]:
    """Squared half-width of one future optimum about a polynomial in s, and residual variance [G].

    As in `future_spread`, for P terms 1, s, ..., s^(P-1): t(K-P)^2 * (max(r^2, C) z' (Z'Z)^-1 z +
    max(r^2 - C, 0)), with z = (1, s, ...), r^2 the residual variance and C the mean measurement
    variance. In s that is a polynomial: its 2 P - 1 coefficients, [G, 2 P - 1].
    """
    k = s_GK.shape[1]
    z_GKP = s_GK[..., None] ** np.arange(terms)
    plain_GKK = np.broadcast_to(np.eye(k), covariance_GKK.shape)
    gain_GPK, _ = _gain(z_GKP, plain_GKK)
    coefficient_GP = np.einsum("gpk,gk->gp", gain_GPK, y_GK)
    residual_GK = y_GK - np.einsum("gkp,gp->gk", z_GKP, coefficient_GP)
    residual_G = (residual_GK**2).sum(1) / (k - terms)
    measured_G = np.diagonal(covariance_GKK, axis1=1, axis2=2).mean(1)
    inverse_GPP = gain_GPK @ np.swapaxes(gain_GPK, 1, 2)  # (Z'Z)^-1
    squares = np.zeros((len(s_GK), 2 * terms - 1))
    for i, j in np.ndindex(terms, terms):
        squares[:, i + j] += np.maximum(residual_G, measured_G) * inverse_GPP[:, i, j]
    squares[:, 0] += np.maximum(residual_G - measured_G, 0)
    return t_quantile(k - terms) ** 2 * squares, residual_G


def _least_squares(
    columns: list[Array], y_GK: Array, covariance_GKK: Array, scatter_G: Array
) -> tuple[Array, Array]:
    """Coefficients and standard errors, [G, P], of y on P columns of [G, K] each.

    As for the slope of the line, the standard errors are sqrt(Q / (K - P)) times those under V =
    covariance + scatter^2 I, with Q = r' V^-1 r (Knapp & Hartung 2003), and never below those of
    the measurement alone.
    """
    z_GKP = np.stack(columns, axis=-1)
    # coefficients = gain y, of variance (Z' V^-1 Z)^-1
    spread_GKK = with_scatter(covariance_GKK, scatter_G)
    gain_GPK, variance_GP = _gain(z_GKP, spread_GKK)
    coefficient_GP = np.einsum("gpk,gk->gp", gain_GPK, y_GK)
    # residuals r, and Q / (K - P) with Q = r' V^-1 r
    residual_GK = y_GK - np.einsum("gkp,gp->gk", z_GKP, coefficient_GP)
    weighted_GK = np.linalg.solve(spread_GKK, residual_GK[..., None])[..., 0]
    scale_G = (residual_GK * weighted_GK).sum(1) / (z_GKP.shape[1] - z_GKP.shape[2])
    _, measurement_GP = _gain(z_GKP, covariance_GKK)
    return coefficient_GP, np.sqrt(np.maximum(scale_G[:, None] * variance_GP, measurement_GP))


def _gain(z_GKP: Array, covariance_GKK: Array) -> tuple[Array, Array]:
    """(Z' V^-1 Z)^-1 Z' V^-1, [G, P, K], and the diagonal of (Z' V^-1 Z)^-1, [G, P]."""
    weighted_GPK = np.swapaxes(np.linalg.solve(covariance_GKK, z_GKP), 1, 2)
    inverse_GPP = np.linalg.inv(weighted_GPK @ z_GKP)
    gain_GPK = np.einsum("gpq,gqk->gpk", inverse_GPP, weighted_GPK)
    return gain_GPK, np.einsum("gpp->gp", inverse_GPP)
