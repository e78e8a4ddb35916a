"""The fit of one sweep in plain steps, to read beside the stacked one and to test it against.

Every width has a usable optimum and every seed has all cells of its width. K widths, C cells,
S seeds; x in octaves, losses in units of the excess of a low cell (Cells.normalised).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from mutransfer_cli.fit.arrays import Array


def phi(d: Array, tilt: float) -> tuple[Array, Array, Array]:
    """2 (exp(L d) - 1 - L d) / L^2 as its series, and its derivatives by d and by L."""
    d = np.clip(d, -4, 4)
    terms = range(18)
    value = sum(2 * tilt**j * d ** (j + 2) / math.factorial(j + 2) for j in terms)
    by_d = sum(2 * tilt**j * d ** (j + 1) / math.factorial(j + 1) for j in terms)
    by_tilt = sum(2 * j * tilt ** (j - 1) * d ** (j + 2) / math.factorial(j + 2) for j in terms[1:])
    return np.asarray(value), np.asarray(by_d), np.asarray(by_tilt)


def window(x: Array, centre: float, half_width: float, in_cells: int) -> Array:
    """1 within the half-width of the centre, falling to 0 over one cell."""
    h = float(np.median(np.diff(x)))
    reach = in_cells * h if h > 0.75 else half_width
    return np.clip((reach + h / 2 - np.abs(x - centre)) / h, 0, 1)


def start(x: Array, y: Array) -> tuple[float, float]:
    """Vertex and curvature of a parabola in a window that follows it."""
    h, centre, a = float(np.median(np.diff(x))), float(x[y.argmin()]), 0.0
    for _ in range(14):
        w = np.sqrt(window(x, centre, 1.5, 2))
        design = np.stack([np.ones_like(x), x - centre, (x - centre) ** 2], axis=1)
        _, slope, a = np.linalg.lstsq(w[:, None] * design, w * y)[0]
        step = -slope / (2 * a) if a > 0 else -np.sign(slope) * h
        centre = float(np.clip(centre + np.clip(step, -h, h), x[0] - h, x[-1] + h))
    return centre, float(a)


@dataclass(frozen=True)
class System:
    """The linear system about (mu, a, tilt): loss = b + slope phi' + a phi + dtilt a dphi/dtilt."""

    soft: list[Array]
    """Windows, [C] for each width."""
    weight: list[Array]
    """The same times the seeds of a cell, relative to their mean."""
    design: list[Array]
    """Columns, [C, 4] for each width."""
    posterior: Array
    """Inverse of the normal equations over noise^2, prior included, [K, 4, K, 4]."""
    solution: Array
    """(b, slope, a, change of tilt) of each width, [K, 4]."""


def fit(u: Array, x: Sequence[Array], loss: Sequence[Array], noise: float) -> tuple[Array, float]:
    """Optima [K] and the exponent.

    Args:
        u: log2 width, [K].
        x: log2 of the hyperparameter, [C] for each width.
        loss: losses, [C, S] for each width.
        noise: first estimate of the sd of a cell mean.
    """
    y, seeds = [one.mean(1) for one in loss], np.array([one.shape[1] for one in loss])
    share = seeds / np.average(seeds, weights=[len(one) for one in x])
    h = np.array([np.median(np.diff(one)) for one in x])
    first, last = np.array([[one[0], one[-1]] for one in x]).T
    mu, a = np.array([start(*cells) for cells in zip(x, y, strict=True)]).T
    a, tilt = np.maximum(a, 0.01), np.zeros(len(u))
    for step in range(14):  # Gauss-Newton
        solution = system(x, y, share, mu, a, tilt, noise).solution
        damping = 1.0 if step < 8 else 0.6
        a = np.maximum(solution[:, 2], 0.01)
        move = damping * np.clip(-solution[:, 1] / a, -h, h)
        mu = np.clip(mu + move, first - h, last + h)
        tilt = np.clip(tilt + damping * np.clip(solution[:, 3], -0.4, 0.4), -1.2, 1.8)
    at = system(x, y, share, mu, a, tilt, noise)
    return mu, exponent(u, mu, covariance(at, loss, a, noise))


def system(
    x: Sequence[Array],
    y: Sequence[Array],
    share: Array,
    mu: Array,
    a: Array,
    tilt: Array,
    noise: float,
) -> System:
    """Normal equations of all widths; the prior of the tilts, N(0, 0.2^2 I + 11'), couples them."""
    k = len(mu)
    left, right = np.zeros((k, 4, k, 4)), np.zeros((k, 4))
    soft = [window(one, centre, 2.5, 3) for one, centre in zip(x, mu, strict=True)]
    weight = [one * relative for one, relative in zip(soft, share, strict=True)]
    design = []
    for i in range(k):
        value, by_d, by_tilt = phi(x[i] - mu[i], tilt[i])
        design.append(np.stack([np.ones_like(value), by_d, value, a[i] * by_tilt], axis=1))
        weighted = (weight[i][:, None] * design[i]).T
        left[i, :, i] = (weighted @ design[i] + 1e-9 * np.eye(4)) / noise**2
        right[i] = weighted @ y[i] / noise**2
    prior = np.linalg.inv(0.2**2 * np.eye(k) + 1.0**2)
    left[:, 3, :, 3] += prior
    right[:, 3] -= prior @ tilt
    flat = left.reshape(4 * k, 4 * k)
    posterior = np.asarray(np.linalg.inv(flat).reshape(left.shape), dtype=np.float64)
    solution = np.asarray(np.linalg.solve(flat, right.ravel()).reshape(k, 4), dtype=np.float64)
    return System(soft, weight, design, posterior, solution)


def covariance(at: System, loss: Sequence[Array], a: Array, noise: float) -> Array:
    """Covariance of the optima, [K, K]: that of the slopes over a^2, at the noise now found."""
    k, seeds = len(a), np.array([one.shape[1] for one in loss])
    mean_seeds = np.average(seeds, weights=[len(one) for one in loss])
    squares, freedom, moved = np.zeros(k), np.zeros(k), []
    for i in range(k):
        # misfit of the cell means, and deviations within cells from a line for each seed
        y, soft, own = loss[i].mean(1), at.soft[i], at.posterior[i, :, i]
        weighted, line = (at.weight[i][:, None] * at.design[i]).T, at.design[i][:, :2]
        squares[i] = at.weight[i] @ (y - at.design[i] @ at.solution[i]) ** 2
        freedom[i] = soft.sum() - np.trace(own @ weighted @ at.design[i]) / noise**2
        away = loss[i] - y[:, None]
        shifts = np.linalg.solve((soft * line.T) @ line, (soft * line.T) @ away)
        squares[i] += (soft @ (away - line @ shifts) ** 2).sum() / mean_seeds
        freedom[i] += max((seeds[i] - 1) * (soft.sum() - 2), 0)
        moved.append(-(own[1] @ weighted) @ away / noise**2 / a[i])  # of the optimum, by each seed
    mean_square = squares / freedom
    pool = mean_square <= 4 * np.median(mean_square)
    pooled, of_pool = squares[pool].sum() / freedom[pool].sum(), freedom[pool].sum()
    outlying = mean_square > stats.f.ppf(0.99, freedom, of_pool) * pooled
    sd = np.sqrt(np.where(outlying, mean_square, pooled))
    found: Array = at.posterior[:, 1, :, 1] / noise**2 * np.outer(sd / a, sd / a)
    if seeds.max() == 1:
        return found
    # common random numbers: seeds that move the optima more than independent noise would
    observed = np.array([one.var(ddof=1) / one.size for one in moved])
    ratio = np.average(observed / np.diagonal(found), weights=seeds - 1)
    return found * (ratio if ratio > stats.f.ppf(0.95, (seeds - 1).sum(), of_pool) else 1.0)


def exponent(u: Array, optimum: Array, errors: Array) -> float:
    """Slope by generalised least squares, with the scatter at which Q = K - 2 (Paule & Mandel)."""
    design = np.stack([np.ones_like(u), u], axis=1)

    def line(scatter: float) -> tuple[Array, float]:
        """Coefficients and Q."""
        inverse = np.linalg.inv(errors + (scatter**2 + 1e-12) * np.eye(len(u)))
        found = np.linalg.solve(design.T @ inverse @ design, design.T @ inverse @ optimum)
        residual = optimum - design @ found
        return found, float(residual @ inverse @ residual)

    def excess(scatter: float) -> float:
        return line(scatter)[1] - (len(u) - 2)

    most = 2 * float(np.ptp(optimum)) + 1
    scatter = optimize.brentq(excess, 0, most, xtol=1e-14) if excess(0) > 0 else 0.0
    return float(line(scatter)[0][1])
