"""The shape of a bowl: a parabola that may be steeper on one side.

phi(d; L) = 2 (exp(L d) - 1 - L d) / L^2 = d^2 + L d^3 / 3 + L^2 d^4 / 12 + ..., with d octaves from
the optimum and L the tilt per octave: linear far below the optimum, exponential above it.

MERGED:
Seeds that share their data order move whole bowls: how much more than independent noise would.

A fit is linear in the losses near its solution: applied to one seed's deviations from the cell
means it gives that seed's own displacement of the optimum.
Shapes: G sweeps, K widths, C cells, S seeds, P columns of a design.

The optimum at every width of a sweep, from tilted bowls whose tilts are partially pooled.

    loss = b + a phi(x - mu; tilt),  tilts ~ N(0, 0.2^2 I + 1.0^2 11')

in a soft window that follows mu: a common tilt is almost free, widths may differ a little from it.
Shapes: G sweeps at once, K widths, C cells. x and mu in octaves, losses in units of the excess
of a low cell (Cells.normalised).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from mutransfer_cli.fit.cells import Cells, nanmedian

Array = npt.NDArray[np.float64]

TERMS = 18  # of the series, which unlike the closed form is exact at L = 0
REACH = 4.0  # octaves; beyond it the series is not needed


def shape(distance: Array, tilt: Array) -> tuple[Array, Array, Array]:
    """phi, its derivative by distance, and its derivative by tilt, each in distance's shape."""
    d = np.clip(distance, -REACH, REACH)
    value, by_distance, by_tilt = np.zeros_like(d), np.zeros_like(d), np.zeros_like(d)
    term = 2 * d  # 2 L^j d^(j+1) / (j+1)!
    previous = np.zeros_like(d)
    for j in range(TERMS):
        by_distance += term
        here = term * d / (j + 2)
        value += here
        by_tilt += j * previous
        previous = here * d / (j + 3)
        term = term * (tilt * d) / (j + 2)
    return value, by_distance, by_tilt


Mask = npt.NDArray[np.bool_]

MOST_MISSING = 0.5  # of the window, for a seed to tell how it moves the optimum
LEVEL = 0.95  # at which seeds are told from independent noise
TINY = 1e-9


def seed_lines(away: Array, weight: Array, columns: Array) -> Array:
    """Level and slope of each seed's deviations over the cells that it has, [G, K, C, S].

    Args:
        away: of each loss from its cell's mean, [G, K, C, S]; NaN where a seed has no trial.
        weight: of the cells, [G, K, C].
        columns: [G, K, C, P].
    """
    has = ~np.isnan(away)
    by_seed = weight[..., None] * has
    size = columns.shape[-1]
    normal = np.einsum("gkcs,gkci,gkcj->gksij", by_seed, columns, columns) + TINY * np.eye(size)
    right = np.einsum("gkcs,gkci,gkcs->gksi", by_seed, columns, np.where(has, away, 0.0))
    shift = np.linalg.solve(normal, right[..., None])[..., 0]
    lines: Array = np.einsum("gkci,gksi->gkcs", columns, shift)
    return lines


def whole_deviations(away: Array, weight: Array, columns: Array) -> tuple[Array, Mask]:
    """Deviations with the seed's own line where it has no trial, and which seeds have cells enough
    to tell, [G, K, S]; arguments as of `seed_lines`."""
    has = ~np.isnan(away)
    filled = np.where(has, away, seed_lines(away, weight, columns))
    return filled, (weight[..., None] * has).sum(2) > MOST_MISSING * weight.sum(2)[..., None]


def inflation(
    displaced: Array, there: Mask, expected: Array, freedom: Array
) -> tuple[Array, Array]:
    """Factor on the variance of the optima, [G], at least 1, and its degrees of freedom.

    1 unless the seeds' displacements exceed by F at LEVEL what independent noise explains.

    Args:
        displaced: by each seed, [G, K, S]; there: which of them count.
        expected: variance of the optima by independent noise, [G, K].
        freedom: degrees of freedom behind it, [G].
    """
    seeds = there.sum(-1)
    mean = (displaced * there).sum(-1) / np.maximum(seeds, 1)
    squares = (there * (displaced - mean[..., None]) ** 2).sum(-1)
    observed = squares / np.maximum(seeds - 1, 1) / np.maximum(seeds, 1)
    counted = (seeds >= 2) & np.isfinite(expected)
    ratio = np.where(counted, observed / np.where(counted, np.maximum(expected, TINY**2), 1.0), 0.0)
    by_width = np.where(counted, seeds - 1, 0)
    of_seeds = by_width.sum(1).astype(np.float64)
    mean_ratio = (ratio * by_width).sum(1) / np.maximum(of_seeds, 1)
    limit = stats.f.ppf(LEVEL, np.maximum(of_seeds, 1), np.maximum(freedom, 0.5))
    alarm = (of_seeds > 0) & (mean_ratio > limit)
    return np.where(alarm, mean_ratio, 1.0), np.where(alarm, of_seeds, freedom)


STEPS = 14
PARABOLA_WINDOW, TILTED_WINDOW = 1.5, 2.5  # half-widths, octaves
OWN_TILT, COMMON_TILT = 0.2, 1.0  # prior sd per octave
TILT_STEP, TILT_RANGE = 0.4, (-1.2, 1.8)
LEAST_CURVATURE = 1e-2  # per octave^2, of the excess of a low cell
OUTLYING = 4.0  # times the median mean square: a width that does not enter the pool


@dataclass(frozen=True)
class Parabolas:
    """Soft-window parabolas: where the tilted bowls start, and the check on their form; [G, K]."""

    optimum: Array
    curvature: Array


@dataclass(frozen=True)
class Bowls:
    """Tilted bowls of every width.

    Attributes:
        optimum, loss, curvature, tilt: mu, b, a and L, [G, K].
        tilt_covariance: of the tilts' errors, [G, K, K].
        slope: what is left of the derivative at mu, [G, K], nats per octave.
        covariance: of the optima's errors, [G, K, K].
        slope_curvature: covariance of slope and curvature, [G, K, 2, 2].
        noise: sd of a cell mean, [G, K], at the sweep's mean number of seeds.
        freedom: degrees of freedom behind the noise, [G].
        in_window: weight of the cells used, [G, K].
        parabola: optimum by the parabola, [G, K].
    """

    optimum: Array
    loss: Array
    curvature: Array
    tilt: Array
    tilt_covariance: Array
    slope: Array
    covariance: Array
    slope_curvature: Array
    noise: Array
    freedom: Array
    in_window: Array
    parabola: Array


def window(cells: Cells, centre: Array, half_width: float, in_cells: float) -> Array:
    """Weights [G, K, C]: 1 within the half-width, falling to 0 over one cell at its edge.

    On grids coarser than 0.75 octave the half-width is `in_cells` cells. Cells weigh by their
    seeds, over the sweep's mean number of them.
    """
    spacing = cells.spacing
    reach = np.where(spacing > 0.75, in_cells * spacing, half_width)
    distance = np.abs(cells.x - centre[..., None])
    soft = np.clip(((reach + spacing / 2)[..., None] - distance) / spacing[..., None], 0, 1)
    weight: Array = soft * cells.n / cells.mean_n[:, None, None]
    return weight


def fit_parabolas(cells: Cells) -> Parabolas:
    """Each window is recentred on its own vertex, at most a cell a step."""
    centre, spacing = cells.at(cells.x, cells.best), cells.spacing
    low, high = cells.first - spacing, cells.last + spacing
    curvature = np.zeros_like(centre)
    for _ in range(STEPS):
        weight = window(cells, centre, PARABOLA_WINDOW, 2)
        d = np.where(cells.present, cells.x - centre[..., None], 0.0)
        design = np.stack([np.ones_like(d), d, d**2], axis=-1)
        normal = np.einsum("gkc,gkci,gkcj->gkij", weight, design, design) + TINY * np.eye(3)
        right = np.einsum("gkc,gkci,gkc->gki", weight, design, cells.mean)
        _, slope, curvature = np.moveaxis(np.linalg.solve(normal, right[..., None])[..., 0], -1, 0)
        vertex = np.where(curvature > 0, -slope / (2 * np.where(curvature > 0, curvature, 1)), 0)
        step = np.where(curvature > 0, vertex, -np.sign(slope) * spacing)
        centre = np.clip(centre + np.clip(step, -spacing, spacing), low, high)
    return Parabolas(centre, curvature)


@dataclass(frozen=True)
class _State:
    """One Gauss-Newton state: parameters [G, K], and the linear system behind the next."""

    mu: Array
    a: Array
    tilt: Array
    weight: Array
    design: Array
    precision: Array


def fit_bowls(cells: Cells, first_noise: Array) -> Bowls:
    """All widths of a sweep together.

    Args:
        first_noise: sd of a cell mean, [G]; weighs the losses against the prior of the tilts.
    """
    start = fit_parabolas(cells)
    mu, tilt = start.optimum, np.zeros_like(start.optimum)
    a = np.maximum(start.curvature, LEAST_CURVATURE)
    spacing = cells.spacing
    low, high = cells.first - spacing, cells.last + spacing
    for step in range(STEPS):
        state = _system(cells, mu, a, tilt, first_noise)
        solution = _solve(state, cells.mean, first_noise)
        damping = 1.0 if step < 8 else 0.6
        slope, new_a, tilt_step = solution[..., 1], solution[..., 2], solution[..., 3]
        a = np.maximum(new_a, LEAST_CURVATURE)
        move = np.clip(-slope / a, -spacing, spacing)
        mu = np.clip(mu + damping * move, low, high)
        tilt = np.clip(tilt + damping * np.clip(tilt_step, -TILT_STEP, TILT_STEP), *TILT_RANGE)
    state = _system(cells, mu, a, tilt, first_noise)
    return _with_errors(cells, state, first_noise, start.optimum)


def _system(cells: Cells, mu: Array, a: Array, tilt: Array, noise: Array) -> _State:
    """Columns 1, dphi/dd, phi, a dphi/dtilt of every width, and the precision [G, 4K, 4K]."""
    weight = window(cells, mu, TILTED_WINDOW, 3)
    d = np.where(cells.present, cells.x - mu[..., None], 0.0)
    phi, by_distance, by_tilt = shape(d, tilt[..., None])
    columns = [np.ones_like(d), by_distance, phi, a[..., None] * by_tilt]
    design = np.stack(columns, axis=-1)
    g, k = mu.shape
    squares = np.einsum("gkc,gkci,gkcj->gkij", weight, design, design) + TINY * np.eye(4)
    normal = squares / noise[:, None, None, None] ** 2
    precision = np.zeros((g, k, 4, k, 4))
    each = np.arange(k)
    precision[:, each, :, each, :] = np.moveaxis(normal, 1, 0)
    precision[:, :, 3, :, 3] += prior_precision(k)
    return _State(mu, a, tilt, weight, design, precision.reshape(g, 4 * k, 4 * k))


def prior_precision(k: int) -> Array:
    """Of the tilts of K widths, [K, K]."""
    covariance = OWN_TILT**2 * np.eye(k) + COMMON_TILT**2 * np.ones((k, k))
    return np.linalg.inv(covariance).astype(np.float64)


def _solve(state: _State, losses: Array, noise: Array) -> Array:
    """(b, slope, a, change of tilt) of every width, [G, K, 4]."""
    g, k = state.mu.shape
    right = np.einsum("gkc,gkci,gkc->gki", state.weight, state.design, losses)
    right = right / noise[:, None, None] ** 2
    right[..., 3] -= state.tilt @ prior_precision(k)
    solution = np.linalg.solve(state.precision, right.reshape(g, 4 * k, 1))
    found: Array = solution.reshape(g, k, 4)
    return found


def _with_errors(cells: Cells, state: _State, first_noise: Array, parabola: Array) -> Bowls:
    g, k = state.mu.shape
    posterior = np.linalg.inv(state.precision).astype(np.float64).reshape(g, k, 4, k, 4)
    solution = _solve(state, cells.mean, first_noise)
    residual = cells.mean - np.einsum("gkci,gki->gkc", state.design, solution)
    each = np.arange(k)
    own: Array = np.moveaxis(posterior[:, each, :, each, :], 0, 1)  # [G, K, 4, 4]
    information = np.einsum("gkc,gkci,gkcj->gkij", state.weight, state.design, state.design)
    spent = np.einsum("gkij,gkji->gk", own, information) / first_noise[:, None] ** 2
    noise, freedom = _noise(cells, state, residual, spent)
    relative = noise / first_noise[:, None]
    scale = relative / state.a
    covariance: Array = posterior[:, :, 1, :, 1] * scale[:, :, None] * scale[:, None, :]
    moved, freedom = _common_random_numbers(cells, state, own, first_noise, covariance, freedom)
    return Bowls(
        optimum=state.mu,
        loss=solution[..., 0],
        curvature=state.a,
        tilt=state.tilt,
        tilt_covariance=posterior[:, :, 3, :, 3] * relative[:, :, None] * relative[:, None, :],
        slope=solution[..., 1],
        covariance=covariance * moved[:, None, None],
        slope_curvature=own[..., 1:3, 1:3] * (relative**2 * moved[:, None])[..., None, None],
        noise=noise,
        freedom=freedom,
        in_window=(state.weight > 0).sum(-1).astype(np.float64),
        parabola=parabola,
    )


def _noise(cells: Cells, state: _State, residual: Array, spent: Array) -> tuple[Array, Array]:
    """Sd of the mean of a cell with the sweep's mean number of seeds, by width [G, K], and the
    degrees of freedom [G], pooled over widths.

    From the misfit of the cells and, with seeds, from the pure error.
    """
    mean_n = cells.mean_n[:, None, None]
    soft = state.weight * mean_n / np.maximum(cells.n, 1)
    squares = (state.weight * residual**2).sum(-1)
    freedom = np.maximum(soft.sum(-1) - spent, 0)
    if cells.losses.shape[-1] > 1:
        squares = squares + _pure_error(cells, state, soft) / cells.mean_n[:, None]
        lines = 2 * (np.maximum(cells.n.max(-1), 1) - 1)
        freedom = freedom + np.maximum((soft * np.maximum(cells.n - 1, 0)).sum(-1) - lines, 0)
    mean_square = squares / np.maximum(freedom, TINY)
    usable = freedom > 0.5
    typical = np.nan_to_num(nanmedian(np.where(usable, mean_square, np.nan), axis=1))
    pooled_in = usable & (mean_square <= OUTLYING * typical[:, None])
    pool = np.where(pooled_in, freedom, 0).sum(1)
    pooled = np.where(pooled_in, squares, 0).sum(1) / np.maximum(pool, TINY)
    limit = stats.f.ppf(0.99, np.maximum(freedom, 0.5), np.maximum(pool, 0.5)[:, None])
    own = usable & (mean_square > limit * pooled[:, None])
    return np.sqrt(np.where(own, mean_square, pooled[:, None])), pool


def _pure_error(cells: Cells, state: _State, soft: Array) -> Array:
    """Squares within cells, [G, K], after level and slope of each seed, which shift whole bowls."""
    away = cells.losses - cells.mean[..., None]
    left = np.nan_to_num(away - seed_lines(away, soft, state.design[..., :2]))
    squares: Array = (soft[..., None] * left**2).sum((-1, -2))
    return squares


def _common_random_numbers(
    cells: Cells, state: _State, own: Array, noise: Array, covariance: Array, freedom: Array
) -> tuple[Array, Array]:
    """How much more the seeds move the optima than independent noise would, [G], at least 1."""
    if cells.losses.shape[-1] < 2:
        return np.ones(len(freedom)), freedom
    away = cells.losses - cells.mean[..., None]
    filled, there = whole_deviations(away, state.weight, state.design[..., :2])
    gain = np.einsum("gki,gkc,gkci->gkc", own[..., 1, :], state.weight, state.design)
    gain = -gain / noise[:, None, None] ** 2 / state.a[..., None]
    displaced = np.einsum("gkc,gkcs->gks", gain, filled)
    return inflation(displaced, there, np.diagonal(covariance, axis1=1, axis2=2), freedom)
