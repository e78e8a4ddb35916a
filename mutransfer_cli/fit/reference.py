"""The fit of one sweep in plain steps, to read beside bowls.py and law.py and to test them against.

It leaves out the choice of cells and runs (`first_noise`, `settle`), the lines of seeds, seeds that
lack some cells, the quartic term, widths without a usable optimum, statuses and intervals.
K widths, C cells (widths may differ in them), S seeds; x in octaves, losses in units of the excess
of a low cell (Cells.normalised). The constants are those of phi.py and bowls.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from mutransfer_cli.fit.arrays import Array


@dataclass(frozen=True)
class Runs:
    """The runs of one sweep, by width."""

    x: Sequence[Array]
    """log2 of the hyperparameter, [C] for each width."""
    loss: Sequence[Array]
    """Losses, [C, S] for each width."""
    line: Sequence[Array]
    """Level and slope that a seed has in all cells, evaluated at each, [C, S] for each width."""
    freedom: Array
    """Degrees of freedom within the cells, net of the lines, over those without lines, [K]."""
    noise: float
    """First estimate of the sd of a cell mean."""


def fit(u_K: Array, runs: Runs) -> tuple[Array, float]:
    """Optima (mu), [K], and the exponent; u_K is log2 width."""
    x, loss = runs.x, runs.loss
    h_K, first_K, last_K = np.array([(np.median(np.diff(x_C)), x_C[0], x_C[-1]) for x_C in x]).T
    start_K2 = [parabola(x_C, loss_CS.mean(1)) for x_C, loss_CS in zip(x, loss, strict=True)]
    mu_K, a_K = np.array(start_K2).T
    a_K, tilt_K = np.maximum(a_K, 0.01), np.zeros(len(u_K))
    for step in range(14):  # Gauss-Newton
        *_, solution_K4 = linearised(runs, mu_K, a_K, tilt_K)
        _, slope_K, a_K, turn_K = solution_K4.T
        a_K, damping = np.maximum(a_K, 0.01), 1.0 if step < 8 else 0.6
        move_K = damping * np.clip(-slope_K / a_K, -h_K, h_K)
        mu_K = np.clip(mu_K + move_K, first_K - h_K, last_K + h_K)
        tilt_K = np.clip(tilt_K + damping * np.clip(turn_K, -0.4, 0.4), -1.2, 1.8)
    return mu_K, exponent(u_K, mu_K, covariance(runs, mu_K, a_K, tilt_K))


def parabola(x_C: Array, y_C: Array) -> tuple[float, float]:
    """Vertex and curvature of a parabola in a window that follows it."""
    h, centre, a = float(np.median(np.diff(x_C))), float(x_C[y_C.argmin()]), 0.0
    for _ in range(14):
        root_C = np.sqrt(window(x_C, centre, 1.5, 2))
        a, slope, _ = np.polyfit(x_C - centre, y_C, 2, w=root_C)
        step = -slope / (2 * a) if a > 0 else -np.sign(slope) * h
        centre = float(np.clip(centre + np.clip(step, -h, h), x_C[0] - h, x_C[-1] + h))
    return centre, float(a)


def window(x_C: Array, centre: float, half_width: float, in_cells: int) -> Array:
    """1 within the half-width of the centre, falling to 0 over one cell."""
    h = float(np.median(np.diff(x_C)))
    reach = in_cells * h if h > 0.75 else half_width
    return np.clip((reach + h / 2 - np.abs(x_C - centre)) / h, 0, 1)


def columns(d_C: Array, a: float, tilt: float) -> Array:
    """1, dphi/dd, phi and a dphi/dL, [C, 4], of phi = 2 (exp(L d) - 1 - L d) / L^2 as a series."""
    terms = [2 * d_C ** (j + 2) / math.factorial(j + 2) for j in range(60)]
    value = sum(tilt**j * term for j, term in enumerate(terms))
    by_d = sum(2 * tilt**j * d_C ** (j + 1) / math.factorial(j + 1) for j in range(60))
    by_tilt = sum(j * tilt ** (j - 1) * term for j, term in enumerate(terms) if j)
    return np.stack([np.ones_like(d_C), by_d, value, a * by_tilt], axis=1)


def linearised(
    runs: Runs, mu_K: Array, a_K: Array, tilt_K: Array
) -> tuple[list[Array], list[Array], Array, Array]:
    """Solve loss = b + slope dphi/dd + a phi + turn a dphi/dL at all widths together; the prior of
    the tilts, N(0, 0.2^2 I + 11'), couples them.

    Returns:
        Windows W [C] and designs X [C, 4] of each width, the posterior [K, 4, K, 4], which is the
        inverse of X' W X / noise^2 with the prior, and (b, slope, a, turn), [K, 4].
    """
    x, loss, noise, k, soft, design = runs.x, runs.loss, runs.noise, len(mu_K), [], []
    left, right = np.zeros((k, 4, k, 4)), np.zeros((k, 4))
    for i in range(k):
        soft.append(window(x[i], mu_K[i], 2.5, 3))
        design.append(columns(x[i] - mu_K[i], a_K[i], tilt_K[i]))
        weighted = (soft[i][:, None] * design[i]).T
        left[i, :, i] = (weighted @ design[i] + 1e-9 * np.eye(4)) / noise**2
        right[i] = weighted @ loss[i].mean(1) / noise**2
    prior_KK = np.linalg.inv(0.2**2 * np.eye(k) + 1.0**2)
    left[:, 3, :, 3] += prior_KK
    right[:, 3] -= prior_KK @ tilt_K  # the unknown is the change of tilt
    flat = left.reshape(4 * k, 4 * k)
    posterior = np.asarray(np.linalg.inv(flat).reshape(left.shape), dtype=np.float64)
    solution_K4 = np.linalg.solve(flat, right.ravel()).reshape(k, 4)
    return soft, design, posterior, np.asarray(solution_K4, dtype=np.float64)


def covariance(runs: Runs, mu_K: Array, a_K: Array, tilt_K: Array) -> Array:
    """Covariance of the optima, [K, K]: that of the slopes over a^2, at the noise now found."""
    soft, design, posterior, solution_K4 = linearised(runs, mu_K, a_K, tilt_K)
    loss, noise, k, seeds = runs.loss, runs.noise, len(a_K), runs.loss[0].shape[1]
    squares_K, freedom_K, moved_KS = np.zeros(k), np.zeros(k), np.zeros((k, seeds))
    for i in range(k):
        # misfit of the cell means, and deviations of the runs from theirs net of the seeds' lines
        y, own, weighted = loss[i].mean(1), posterior[i, :, i], (soft[i][:, None] * design[i]).T
        squares_K[i] = soft[i] @ (y - design[i] @ solution_K4[i]) ** 2
        freedom_K[i] = soft[i].sum() - np.trace(own @ weighted @ design[i]) / noise**2
        away = loss[i] - y[:, None]
        squares_K[i] += (soft[i] @ (away - runs.line[i]) ** 2).sum() / seeds
        freedom_K[i] += (seeds - 1) * soft[i].sum() * runs.freedom[i]
        moved_KS[i] = -own[1] @ weighted @ away / noise**2 / a_K[i]  # of the optimum, by each seed
    # one noise for all widths but those that are far noisier
    mean_square_K = squares_K / freedom_K
    pool = mean_square_K <= 4 * np.median(mean_square_K)
    pooled, of_pool = squares_K[pool].sum() / freedom_K[pool].sum(), freedom_K[pool].sum()
    outlying = mean_square_K > stats.f.ppf(0.99, freedom_K, of_pool) * pooled
    scale_K = np.sqrt(np.where(outlying, mean_square_K, pooled)) / noise / a_K
    found_KK: Array = posterior[:, 1, :, 1] * np.outer(scale_K, scale_K)
    if seeds == 1:
        return found_KK
    # common random numbers: seeds that move the optima more than independent noise would
    ratio = np.mean(moved_KS.var(1, ddof=1) / seeds / np.diagonal(found_KK))
    return found_KK * (ratio if ratio > stats.f.ppf(0.95, k * (seeds - 1), of_pool) else 1.0)


def exponent(u_K: Array, optimum_K: Array, errors_KK: Array) -> float:
    """Slope by generalised least squares, with the scatter at which Q = K - 2 (Paule & Mandel)."""
    design = np.stack([np.ones_like(u_K), u_K], axis=1)

    def line(scatter: float) -> tuple[float, float]:
        """Slope, and Q - (K - 2)."""
        inverse = np.linalg.inv(errors_KK + (scatter**2 + 1e-12) * np.eye(len(u_K)))
        found = np.linalg.solve(design.T @ inverse @ design, design.T @ inverse @ optimum_K)
        residual = optimum_K - design @ found
        return float(found[1]), float(residual @ inverse @ residual) - (len(u_K) - 2)

    most = 2 * float(np.ptp(optimum_K)) + 1

    exact = line(0)[1] <= 0
    scatter = 0.0 if exact else optimize.brentq(lambda s: line(s)[1], 0, most, xtol=1e-14)
    return line(scatter)[0]
