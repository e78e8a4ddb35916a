"""The line across widths under an assumed bound on the scatter (Bayes), and the interval of the
form spread.

Shapes: G fits at once, K widths, T grid points of the scatter, C cells, S seeds, R resamples.
Everything in octaves (log2 units).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import special, stats

from mutransfer_cli.fit.arrays import LEVEL, Array, Mask, rows, t_quantile
from mutransfer_cli.fit.bowls import Bowls, fit_bowls
from mutransfer_cli.fit.cells import Cells
from mutransfer_cli.fit.law import (
    BISECTIONS,
    MIN_WIDTHS,
    Laws,
    Lines,
    slope_without_largest,
    weighted_line,
    with_scatter,
)
from mutransfer_cli.fit.optimum import EXACT

POINTS = 64  # T
REACH = 4.0  # prior scales
SEED = 0
NORMAL = float(stats.norm.ppf(0.5 + LEVEL / 2))  # standard errors in a half-width


def assume_scatter(
    u_GK: Array, y_GK: Array, covariance_GKK: Array, freedom_G: Array, bound: float
) -> Laws:
    """The law under the assumption that the scatter is below `bound`.

    Random-effects regression with flat priors on level and slope and a half-normal one on the
    scatter (Roever 2020, arXiv 1711.08683) whose scale is half the bound: 95% of it is below.
    Posterior of the scatter t, V = covariance + t^2 I, Z = (1, log2 width):
    |V|^-1/2 |Z' V^-1 Z|^-1/2 exp(-r' V^-1 r / 2) times the prior. Given t, everything is normal.

    Exponent, value and scatter are posterior means; the errors count as known in the posterior.
    As in `fit_laws`, whose first arguments these are, the reported half-width is never below that
    of the measurement.

    Args:
        bound: octaves, above 0.
    """
    g, k = y_GK.shape
    assert k >= MIN_WIDTHS, "callers refuse fewer widths"
    covariance_GKK = covariance_GKK + EXACT * np.eye(k)
    root_T = np.linspace(0, 1, POINTS)
    scatter_T = REACH * bound / 2 * root_T**3  # dense where errors are small
    prior_T = stats.halfnorm.pdf(scatter_T, scale=bound / 2) * root_T**2  # per step of root
    line, weight_GT = _posterior(u_GK, y_GK, covariance_GKK, scatter_T, prior_T)
    slope = Mixture(weight_GT, line.slope, line.slope_error)
    centre_G = _centre(u_GK.mean(1), line, slope)
    # every line of the mixture moved to the common centre, where its value has both errors
    from_line_GT = centre_G[:, None] - line.centre
    value = Mixture(
        weight_GT,
        line.value + line.slope * from_line_GT,
        np.hypot(line.value_error, line.slope_error * from_line_GT),
    )
    # one future optimum has the scatter of its component besides
    future = Mixture(weight_GT, value.means, np.hypot(value.errors, scatter_T))
    floor_t = t_quantile(freedom_G)
    law, measurement = slope.half_width(), floor_t * line.slope_error[:, 0]  # at scatter 0
    half_width = np.maximum(law, measurement)
    return Laws(
        exponent=slope.mean,
        law_half_width=law,
        measurement_half_width=measurement,
        half_width=half_width,
        centre=centre_G,
        value=value.mean,
        value_half_width=np.maximum(value.half_width(), floor_t * value.errors[:, 0]),
        scatter=weight_GT @ scatter_T,
        without_largest=slope_without_largest(u_GK, y_GK, covariance_GKK),
        future_centre=centre_G,
        future_half_width=future.half_width(),
        future_per_octave=half_width,
        future_quantile=np.full(g, NORMAL),
    )


def _posterior(
    u_GK: Array, y_GK: Array, covariance_GKK: Array, scatter_T: Array, prior_T: Array
) -> tuple[Lines, Array]:
    """The lines at each scatter and its weights, which sum to 1; all [G, T]."""
    g = len(u_GK)
    # one stack of G * T regressions
    u, y, covariance = (np.repeat(x, POINTS, axis=0) for x in (u_GK, y_GK, covariance_GKK))
    spread = with_scatter(covariance, np.tile(scatter_T, g))
    line = weighted_line(u, y, spread)
    # the product of both errors is |Z' V^-1 Z|^-1/2
    log_density = np.log(line.value_error * line.slope_error)
    log_density -= (np.linalg.slogdet(spread).logabsdet + line.squares) / 2
    log_density_GT = log_density.reshape(g, POINTS)
    density_GT = prior_T * np.exp(log_density_GT - log_density_GT.max(1, keepdims=True))
    by_scatter = {name: x.reshape(g, POINTS) for name, x in vars(line).items()}
    return Lines(**by_scatter), density_GT / density_GT.sum(1, keepdims=True)


@dataclass(frozen=True)
class Mixture:
    """Mixtures of T normals; weights, means and errors (standard deviations) are [G, T]."""

    weight: Array
    means: Array
    errors: Array

    @property
    def mean(self) -> Array:
        """Mean of the mixture, [G]."""
        return np.asarray((self.weight * self.means).sum(1))

    def half_width(self) -> Array:
        """The half-width [G] about the mean that holds LEVEL of the mixture, by bisection."""
        apart_GT = np.abs(self.means - self.mean[:, None])
        low_G = np.zeros(len(apart_GT))
        high_G: Array = (apart_GT + NORMAL * self.errors).max(1)
        for _ in range(BISECTIONS):
            middle_G = (low_G + high_G) / 2
            # probability of each normal within the half-width of the mean
            above_GT = special.ndtr((middle_G[:, None] - apart_GT) / self.errors)
            below_GT = special.ndtr((-middle_G[:, None] - apart_GT) / self.errors)
            less_G = (self.weight * (above_GT - below_GT)).sum(1) < LEVEL
            low_G, high_G = np.where(less_G, middle_G, low_G), np.where(less_G, high_G, middle_G)
        return high_G


def _centre(near_G: Array, line: Lines, slope: Mixture) -> Array:
    """log2 width [G] at which value and slope of the mixture are uncorrelated.

    The covariance of value and slope is computed at `near_G`, which keeps cancellation small; it
    falls linearly with the distance from there, by the variance of the slope.
    """
    from_line_GT = near_G[:, None] - line.centre
    apart_GT = slope.means - slope.mean[:, None]
    value_GT = line.value + line.slope * from_line_GT
    value_GT -= value_GT.mean(1, keepdims=True)
    together_GT = slope.errors**2 * from_line_GT + apart_GT * value_GT
    # law of total covariance: within the components plus between their means
    covariance_G = (slope.weight * together_GT).sum(1)
    variance_G = (slope.weight * (slope.errors**2 + apart_GT**2)).sum(1)
    return np.asarray(near_G - covariance_G / variance_G)


def form_interval(
    cells: Cells,
    bowls: Bowls,
    first_noise_G: Array,
    sweep: int,
    used_K: Mask,
    scatter: float,
    resamples: int,
) -> tuple[float, float]:
    """Interval at LEVEL of the form spread of one sweep: its exponent minus that by the same bowls
    in narrower windows.

    Every draw adds normal noise of the width's own size to the mean loss of each cell and fits all
    widths again, all draws at once. An interval without 0 shows that the form matters more than
    the noise.

    Args:
        cells: the fitted cells, broken ones left out.
        first_noise_G: the noise that they were fitted with.
        used_K: the widths that the exponent is fitted to.
        scatter: scatter of the law, octaves; it weighs the widths as there.
    """
    random = np.random.default_rng(SEED)
    drawn = rows(cells.without_deviations(), np.repeat(sweep, resamples))
    noise_RKC = bowls.noise[sweep][:, None] * random.standard_normal(drawn.mean.shape)
    mean_RKC = np.where(drawn.present, drawn.mean + noise_RKC, 0.0)
    # the means have their own noise and that of the draw
    noise_R = np.repeat(np.sqrt(2) * first_noise_G[sweep], resamples)
    refitted = fit_bowls(replace(drawn, mean=mean_RKC), noise_R)
    u_RK = drawn.log2_width[:, used_K]
    covariance_KK = bowls.covariance[sweep][np.ix_(used_K, used_K)]
    covariance_KK = covariance_KK + scatter**2 * np.eye(used_K.sum())
    covariance_RKK = np.repeat(covariance_KK[None], resamples, axis=0)
    wide_R, narrow_R = (
        weighted_line(u_RK, optimum_RK[:, used_K], covariance_RKK).slope
        for optimum_RK in (refitted.optimum, refitted.narrow)
    )
    low, high = np.quantile(wide_R - narrow_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
