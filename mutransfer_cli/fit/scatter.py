"""Across widths, when a bound on the scatter between widths is assumed (Bayes).

Shapes: G fits at once, K widths, T values of the scatter. Everything in log2 units (octaves).

MERGED:
How far the form of the bowls moves the exponent, over resampled losses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from mutransfer_cli.fit.bowls import Bowls, fit_bowls
from mutransfer_cli.fit.cells import Cells
from mutransfer_cli.fit.law import (
    BISECTIONS,
    EXACT,
    MIN_WIDTHS,
    Laws,
    Lines,
    slope_without_largest,
    weighted_line,
    with_scatter,
)
from mutransfer_cli.fit.result import LEVEL

Array = npt.NDArray[np.float64]

POINTS = 64  # T
REACH = 4.0  # prior scales


def assume_scatter(
    log2_width: Array,
    optimum: Array,
    covariance: Array,
    freedom: Array,
    bound: float,
    level: float,
) -> Laws:
    """The law under the assumption that the scatter is below `bound`.

    Random-effects regression with flat priors on level and slope and a half-normal one on the
    scatter (Roever 2020, arXiv 1711.08683) whose scale is half the bound: 95 % of it is below.
    Posterior of the scatter t, V = covariance + t^2 I, Z = (1, log2 width):
    |V|^-1/2 |Z' V^-1 Z|^-1/2 exp(-r' V^-1 r / 2) times the prior. Given t, everything is normal.

    Exponent, value and scatter are posterior means; the errors count as known in the posterior.
    The reported half-width is the larger one of the law and of the measurement as in `fit_laws`.

    Args:
        log2_width, optimum: [G, K], K at least MIN_WIDTHS.
        covariance: of the optima's measurement errors, [G, K, K].
        freedom: degrees of freedom behind it, [G]; infinite for known errors.
        bound: octaves, above 0.
        level: of the intervals, 0.95 for 95 %.
    """
    sweeps, k = optimum.shape
    assert k >= MIN_WIDTHS, "callers refuse fewer widths"
    covariance = covariance + EXACT * np.eye(k)
    root = np.linspace(0, 1, POINTS)
    scatter = REACH * bound / 2 * root**3  # dense where errors are small
    prior = stats.halfnorm.pdf(scatter, scale=bound / 2) * root**2  # per step of root
    line, weight = _posterior(log2_width, optimum, covariance, scatter, prior)
    slope = Mixture(weight, line.slope, line.slope_error)
    centre = _centre(log2_width.mean(1), line, slope)
    from_line = centre[:, None] - line.centre
    value = Mixture(
        weight,
        line.value + line.slope * from_line,
        np.hypot(line.value_error, line.slope_error * from_line),
    )
    future = Mixture(weight, value.means, np.hypot(value.errors, scatter))
    quantile, floor_t = stats.norm.ppf(0.5 + level / 2), stats.t.ppf(0.5 + level / 2, freedom)
    law, measurement = slope.half_width(level), floor_t * line.slope_error[:, 0]
    half_width = np.maximum(law, measurement)
    return Laws(
        exponent=slope.mean,
        law_half_width=law,
        measurement_half_width=measurement,
        half_width=half_width,
        centre=centre,
        value=value.mean,
        value_half_width=np.maximum(value.half_width(level), floor_t * value.errors[:, 0]),
        scatter=weight @ scatter,
        without_largest=slope_without_largest(log2_width, optimum, covariance),
        future_centre=centre,
        future_half_width=future.half_width(level),
        future_per_octave=half_width,
        future_quantile=np.full(sweeps, quantile),
    )


def _posterior(
    u: Array, y: Array, covariance: Array, scatter: Array, prior: Array
) -> tuple[Lines, Array]:
    """The lines at each scatter [T] and its weights, which sum to 1; all [G, T]."""
    sweeps = len(u)
    u, y, covariance = (np.repeat(x, POINTS, axis=0) for x in (u, y, covariance))
    spread = with_scatter(covariance, np.tile(scatter, sweeps))
    line = weighted_line(u, y, spread)
    log_density = np.log(line.value_error * line.slope_error)  # errors: |Z' V^-1 Z|^-1/2
    log_density -= (np.linalg.slogdet(spread).logabsdet + line.squares) / 2
    log_density = log_density.reshape(sweeps, POINTS)
    density = prior * np.exp(log_density - log_density.max(1, keepdims=True))
    by_scatter = {name: x.reshape(sweeps, POINTS) for name, x in vars(line).items()}
    return Lines(**by_scatter), density / density.sum(1, keepdims=True)


@dataclass(frozen=True)
class Mixture:
    """Mixtures of T normals; weights, means and errors (standard deviations) are [G, T]."""

    weight: Array
    means: Array
    errors: Array

    @property
    def mean(self) -> Array:
        mean: Array = (self.weight * self.means).sum(1)
        return mean

    def half_width(self, level: float) -> Array:
        """About the mean, holding `level` of the mixture; [G]."""
        apart = np.abs(self.means - self.mean[:, None])
        low = np.zeros(len(apart))
        high: Array = (apart + stats.norm.ppf(0.5 + level / 2) * self.errors).max(1)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            above = special.ndtr((middle[:, None] - apart) / self.errors)
            below = special.ndtr((-middle[:, None] - apart) / self.errors)
            held = (self.weight * (above - below)).sum(1)
            low, high = np.where(held < level, middle, low), np.where(held < level, high, middle)
        return high


def _centre(near: Array, line: Lines, slope: Mixture) -> Array:
    """Log2 width [G] at which value and slope are uncorrelated; `near` keeps cancellation small."""
    from_line, apart = near[:, None] - line.centre, slope.means - slope.mean[:, None]
    value = line.value + line.slope * from_line
    value -= value.mean(1, keepdims=True)
    covariance = (slope.weight * (slope.errors**2 * from_line + apart * value)).sum(1)
    variance = (slope.weight * (slope.errors**2 + apart**2)).sum(1)
    centre: Array = near - covariance / variance
    return centre


SEED = 0


def form_interval(
    cells: Cells,
    bowls: Bowls,
    first_noise: Array,
    sweep: int,
    used: npt.NDArray[np.bool_],
    scatter: float,
    resamples: int,
) -> tuple[float, float]:
    """Interval at LEVEL of the form spread of one sweep: its exponent minus that of parabolas.

    Every draw adds normal noise of the width's own size to the mean loss of each cell and fits all
    widths again, all draws at once. An interval without 0 says that the form matters more than the
    noise.

    Args:
        cells: as fitted, broken ones left out.
        first_noise: as fitted with, [G].
        used: widths that the exponent is fitted to, [K].
        scatter: of the law, octaves; weighs the widths as there.
    """
    random = np.random.default_rng(SEED)
    one = {name: values[sweep] for name, values in vars(cells).items()}
    drawn = {name: np.repeat(values[None], resamples, axis=0) for name, values in one.items()}
    noise = bowls.noise[sweep][:, None] * random.standard_normal(drawn["mean"].shape)
    mean = np.where(drawn["n"] > 0, drawn["mean"] + noise, 0.0)
    # without the seeds' own losses; their noise is in the draws
    drawn |= {"mean": mean, "losses": np.where(drawn["n"] > 0, mean, np.nan)[..., None]}
    refitted = fit_bowls(Cells(**drawn), np.repeat(first_noise[sweep], resamples))
    u = drawn["log2_width"][:, used]
    covariance = bowls.covariance[sweep][np.ix_(used, used)] + scatter**2 * np.eye(used.sum())
    tilted, parabola = (
        weighted_line(u, optimum[:, used], np.repeat(covariance[None], resamples, axis=0)).slope
        for optimum in (refitted.optimum, refitted.parabola)
    )
    low, high = np.quantile(tilted - parabola, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
