"""The optimum at every width of a sweep, from tilted bowls whose tilts are partially pooled.

    loss = b + a phi(x - mu; tilt),  tilts ~ N(0, 0.2^2 I + 1.0^2 11')
    phi(d; L) = 2 (exp(L d) - 1 - L d) / L^2 = d^2 + L d^3 / 3 + L^2 d^4 / 12 + ...

phi is a parabola steeper on one side: linear far below the optimum, exponential above it. A soft
window follows mu; a tilt common to all widths is almost free, and widths may differ a little from
it. `reference.py` fits one sweep by the same method in plain steps.
Shapes: G sweeps at once, K widths, C cells, S seeds, P = 4 columns. x and mu in octaves, losses in
units of the excess of a low cell (Cells.normalised).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from mutransfer_cli.fit.arrays import LEVEL, Array, Mask, nanmedian
from mutransfer_cli.fit.cells import Cells

TERMS = 18  # of the series of phi, which unlike the closed form is exact at L = 0
REACH = 4.0  # octaves; beyond it the series is not needed
STEPS, UNDAMPED, DAMPING = 14, 8, 0.6  # of Gauss-Newton
PARABOLA_WINDOW, TILTED_WINDOW = 1.5, 2.5  # half-widths, octaves
COARSE = 0.75  # octaves; on a coarser grid half-widths are numbers of cells:
PARABOLA_CELLS, TILTED_CELLS = 2, 3
OWN_TILT, COMMON_TILT = 0.2, 1.0  # prior sd per octave
TILT_STEP, TILT_RANGE = 0.4, (-1.2, 1.8)
LEAST_CURVATURE = 1e-2  # per octave^2, of the excess of a low cell
OUTLYING = 4.0  # times the median mean square: noisier widths stay out of the pool
MOST_MISSING = 0.5  # of the window; a seed that lacks more does not show how it moves the optimum
JITTER = 1e-9  # on the diagonal of normal equations


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


@dataclass(frozen=True)
class Bowls:
    """Tilted bowls of every width."""

    optimum: Array
    """mu, [G, K]."""
    loss: Array
    """b, [G, K]."""
    curvature: Array
    """a, [G, K]."""
    tilt: Array
    """L, [G, K]."""
    tilt_covariance: Array
    """Covariance of the errors of the tilts, [G, K, K]."""
    slope: Array
    """Remaining derivative of the loss at mu over that of d^2 / 2, [G, K]."""
    covariance: Array
    """Covariance of the errors of the optima, [G, K, K]."""
    slope_curvature: Array
    """Covariance of slope and curvature, [G, K, 2, 2]."""
    noise: Array
    """Sd of a cell mean, [G, K], at the sweep's mean number of seeds."""
    freedom: Array
    """Degrees of freedom behind the noise, [G]."""
    in_window: Array
    """Number of cells used, [G, K]."""
    parabola: Array
    """Optimum by the parabola, [G, K]."""


def window(cells: Cells, centre_GK: Array, half_width: float, in_cells: float) -> Array:
    """Weights [G, K, C]: 1 within the half-width, falling to 0 over one cell at its edge.

    On grids coarser than COARSE the half-width is `in_cells` cells. Cells weigh by their seeds,
    relative to the sweep's mean number of them.
    """
    spacing_GK = cells.spacing
    reach_GK = np.where(spacing_GK > COARSE, in_cells * spacing_GK, half_width)
    distance_GKC = np.abs(cells.x - centre_GK[..., None])
    edge_GKC = (reach_GK + spacing_GK / 2)[..., None] - distance_GKC
    soft_GKC = np.clip(edge_GKC / spacing_GK[..., None], 0, 1)
    return np.asarray(soft_GKC * cells.n / cells.mean_n[:, None, None])


def fit_parabolas(cells: Cells) -> tuple[Array, Array]:
    """Optimum and curvature [G, K] of soft-window parabolas: where the tilted bowls start, and the
    check on their form.

    Each window is recentred on its own vertex, at most a cell a step.
    """
    centre_GK, spacing_GK = cells.at(cells.x, cells.best), cells.spacing
    low_GK, high_GK = cells.first - spacing_GK, cells.last + spacing_GK
    curvature_GK = np.zeros_like(centre_GK)
    for _ in range(STEPS):
        weight_GKC = window(cells, centre_GK, PARABOLA_WINDOW, PARABOLA_CELLS)
        d_GKC = np.where(cells.present, cells.x - centre_GK[..., None], 0.0)
        # weighted least squares of b + s d + a d^2: (X' W X) beta = X' W loss
        design_GKCP = np.stack([np.ones_like(d_GKC), d_GKC, d_GKC**2], axis=-1)
        normal_GKPP, right_GKP = _normal_equations(weight_GKC, design_GKCP, cells.mean)
        solution_GKP = np.linalg.solve(normal_GKPP, right_GKP[..., None])[..., 0]
        _, slope_GK, curvature_GK = np.moveaxis(solution_GKP, -1, 0)
        # to the vertex -s / 2a where the parabola opens upwards, otherwise one cell downhill
        upwards = curvature_GK > 0
        vertex_GK = np.where(upwards, -slope_GK / (2 * np.where(upwards, curvature_GK, 1)), 0)
        step_GK = np.where(upwards, vertex_GK, -np.sign(slope_GK) * spacing_GK)
        moved_GK = centre_GK + np.clip(step_GK, -spacing_GK, spacing_GK)
        centre_GK = np.clip(moved_GK, low_GK, high_GK)
    return centre_GK, curvature_GK


def _normal_equations(
    weight_GKC: Array, design_GKCP: Array, loss_GKC: Array
) -> tuple[Array, Array]:
    """X' W X, [G, K, P, P], with JITTER on its diagonal, and X' W loss, [G, K, P]."""
    normal_GKPP = np.einsum("gkc,gkci,gkcj->gkij", weight_GKC, design_GKCP, design_GKCP)
    right_GKP = np.einsum("gkc,gkci,gkc->gki", weight_GKC, design_GKCP, loss_GKC)
    return normal_GKPP + JITTER * np.eye(design_GKCP.shape[-1]), right_GKP


@dataclass(frozen=True)
class _State:
    """One Gauss-Newton state: mu, a and tilt [G, K], and the linear system behind the next."""

    mu: Array
    a: Array
    tilt: Array
    weight: Array
    """Window, [G, K, C]."""
    design: Array
    """Columns 1, dphi/dd, phi, a dphi/dtilt, [G, K, C, P]."""
    precision: Array
    """Left side of the normal equations, [G, K P, K P]: the prior couples the widths."""
    right: Array
    """Right side, [G, K, P]."""


def fit_bowls(cells: Cells, first_noise_G: Array) -> Bowls:
    """Fit all widths of each sweep together, by Gauss-Newton.

    About the current (mu, a, tilt) the model is linear: loss = b - a dmu dphi/dd + a' phi +
    dtilt a dphi/dtilt. So mu moves by minus the coefficient of dphi/dd over the curvature.

    Args:
        first_noise_G: sd of a cell mean; weighs the losses against the prior of the tilts.
    """
    start_GK, curvature_GK = fit_parabolas(cells)
    mu_GK, tilt_GK = start_GK, np.zeros_like(start_GK)
    a_GK = np.maximum(curvature_GK, LEAST_CURVATURE)
    spacing_GK = cells.spacing
    low_GK, high_GK = cells.first - spacing_GK, cells.last + spacing_GK
    for step in range(STEPS):
        state = _system(cells, mu_GK, a_GK, tilt_GK, first_noise_G)
        _, slope_GK, new_a_GK, tilt_step_GK = np.moveaxis(_solve(state), -1, 0)
        damping = 1.0 if step < UNDAMPED else DAMPING
        a_GK = np.maximum(new_a_GK, LEAST_CURVATURE)
        move_GK = np.clip(-slope_GK / a_GK, -spacing_GK, spacing_GK)
        mu_GK = np.clip(mu_GK + damping * move_GK, low_GK, high_GK)
        tilt_GK = tilt_GK + damping * np.clip(tilt_step_GK, -TILT_STEP, TILT_STEP)
        tilt_GK = np.clip(tilt_GK, *TILT_RANGE)
    state = _system(cells, mu_GK, a_GK, tilt_GK, first_noise_G)
    return _with_errors(cells, state, first_noise_G, start_GK)


def _system(cells: Cells, mu_GK: Array, a_GK: Array, tilt_GK: Array, noise_G: Array) -> _State:
    """The normal equations of all widths: those of each over noise^2 as blocks of P x P, plus the
    prior, which couples the tilts (last column) of different widths."""
    weight_GKC = window(cells, mu_GK, TILTED_WINDOW, TILTED_CELLS)
    d_GKC = np.where(cells.present, cells.x - mu_GK[..., None], 0.0)
    phi_GKC, by_distance_GKC, by_tilt_GKC = shape(d_GKC, tilt_GK[..., None])
    columns = [np.ones_like(d_GKC), by_distance_GKC, phi_GKC, a_GK[..., None] * by_tilt_GKC]
    design_GKCP = np.stack(columns, axis=-1)
    squares_GKPP, right_GKP = _normal_equations(weight_GKC, design_GKCP, cells.mean)
    g, k = mu_GK.shape
    # blocks X' W X / noise^2 on the diagonal, the prior between the tilts of all widths
    each, prior_KK = np.arange(k), prior_precision(k)
    precision_GKPKP = np.zeros((g, k, 4, k, 4))
    variance_G11 = noise_G[:, None, None] ** 2
    precision_GKPKP[:, each, :, each, :] = np.moveaxis(squares_GKPP / variance_G11[..., None], 1, 0)
    precision_GKPKP[:, :, 3, :, 3] += prior_KK
    # the unknown is the change of tilt, whose prior mean is minus the tilt so far
    right_GKP = right_GKP / variance_G11
    right_GKP[..., 3] -= tilt_GK @ prior_KK
    precision = precision_GKPKP.reshape(g, 4 * k, 4 * k)
    return _State(mu_GK, a_GK, tilt_GK, weight_GKC, design_GKCP, precision, right_GKP)


def prior_precision(k: int) -> Array:
    """Inverse of the prior covariance of the tilts of K widths, [K, K]."""
    covariance_KK = OWN_TILT**2 * np.eye(k) + COMMON_TILT**2 * np.ones((k, k))
    return np.linalg.inv(covariance_KK).astype(np.float64)


def _solve(state: _State) -> Array:
    """(b, slope, a, change of tilt) of every width, [G, K, P]."""
    g, k = state.mu.shape
    solution = np.linalg.solve(state.precision, state.right.reshape(g, 4 * k, 1))
    return np.asarray(solution.reshape(g, k, 4), dtype=np.float64)


def _with_errors(cells: Cells, state: _State, first_noise_G: Array, parabola_GK: Array) -> Bowls:
    """Posterior covariances at the solution, scaled from the first noise to the one now found."""
    g, k = state.mu.shape
    posterior_GKPKP = np.linalg.inv(state.precision).astype(np.float64).reshape(g, k, 4, k, 4)
    solution_GKP = _solve(state)
    residual_GKC = cells.mean - np.einsum("gkci,gki->gkc", state.design, solution_GKP)
    each = np.arange(k)
    own_GKPP: Array = np.moveaxis(posterior_GKPKP[:, each, :, each, :], 0, 1)
    # effective parameters of a width: trace of posterior times X' W X / noise^2
    squares_GKPP = np.einsum("gkc,gkci,gkcj->gkij", state.weight, state.design, state.design)
    spent_GK = np.einsum("gkij,gkji->gk", own_GKPP, squares_GKPP) / first_noise_G[:, None] ** 2
    noise_GK, freedom_G = _noise(cells, state, residual_GKC, spent_GK)
    relative_GK = noise_GK / first_noise_G[:, None]
    # mu = -slope / a: its errors are those of the slopes over a (delta method)
    scale_GK = relative_GK / state.a
    covariance_GKK: Array = (
        posterior_GKPKP[:, :, 1, :, 1] * scale_GK[:, :, None] * scale_GK[:, None, :]
    )
    moved_G, freedom_G = _common_random_numbers(
        cells, state, own_GKPP, first_noise_G, covariance_GKK, freedom_G
    )
    # the tilts' covariance is scaled by the noise alone
    tilt_covariance_GKK = (
        posterior_GKPKP[:, :, 3, :, 3] * relative_GK[:, :, None] * relative_GK[:, None, :]
    )
    inflated_GK = relative_GK**2 * moved_G[:, None]
    return Bowls(
        optimum=state.mu,
        loss=solution_GKP[..., 0],
        curvature=state.a,
        tilt=state.tilt,
        tilt_covariance=tilt_covariance_GKK,
        slope=solution_GKP[..., 1],
        covariance=covariance_GKK * moved_G[:, None, None],
        slope_curvature=own_GKPP[..., 1:3, 1:3] * inflated_GK[..., None, None],
        noise=noise_GK,
        freedom=freedom_G,
        in_window=(state.weight > 0).sum(-1).astype(np.float64),
        parabola=parabola_GK,
    )


def _noise(
    cells: Cells, state: _State, residual_GKC: Array, spent_GK: Array
) -> tuple[Array, Array]:
    """Sd of the mean of a cell with the sweep's mean number of seeds, by width [G, K], and the
    degrees of freedom [G], pooled over widths.

    From the misfit of the cells and, with seeds, from the pure error. Widths far above the median
    stay out of the pool; a width above it by F at 1 % keeps its own.
    """
    soft_GKC = state.weight * cells.mean_n[:, None, None] / np.maximum(cells.n, 1)
    squares_GK = (state.weight * residual_GKC**2).sum(-1)
    freedom_GK = np.maximum(soft_GKC.sum(-1) - spent_GK, 0)
    if cells.losses.shape[-1] > 1:
        squares_GK = squares_GK + _pure_error(cells, state, soft_GKC) / cells.mean_n[:, None]
        # level and slope of all seeds but one are taken out
        lines_GK = 2 * (np.maximum(cells.n.max(-1), 1) - 1)
        within_GK = (soft_GKC * np.maximum(cells.n - 1, 0)).sum(-1)
        freedom_GK = freedom_GK + np.maximum(within_GK - lines_GK, 0)
    mean_square_GK = squares_GK / np.maximum(freedom_GK, JITTER)
    usable_GK = freedom_GK > 0.5
    typical_G = np.nan_to_num(nanmedian(np.where(usable_GK, mean_square_GK, np.nan), axis=1))
    pooled_in_GK = usable_GK & (mean_square_GK <= OUTLYING * typical_G[:, None])
    # pooled variance: squares over degrees of freedom of the widths in the pool
    pool_G = np.where(pooled_in_GK, freedom_GK, 0).sum(1)
    pooled_G = np.where(pooled_in_GK, squares_GK, 0).sum(1) / np.maximum(pool_G, JITTER)
    limit_GK = stats.f.ppf(0.99, np.maximum(freedom_GK, 0.5), np.maximum(pool_G, 0.5)[:, None])
    own_GK = usable_GK & (mean_square_GK > limit_GK * pooled_G[:, None])
    return np.sqrt(np.where(own_GK, mean_square_GK, pooled_G[:, None])), pool_G


def _pure_error(cells: Cells, state: _State, soft_GKC: Array) -> Array:
    """Squares within cells, [G, K], after level and slope of each seed, which shift whole bowls."""
    away_GKCS = cells.losses - cells.mean[..., None]
    line_GKCS = seed_lines(away_GKCS, soft_GKC, state.design[..., :2])
    squares_GKCS = soft_GKC[..., None] * np.nan_to_num(away_GKCS - line_GKCS) ** 2
    return np.asarray(squares_GKCS.sum((-1, -2)))


def _common_random_numbers(
    cells: Cells,
    state: _State,
    own_GKPP: Array,
    noise_G: Array,
    covariance_GKK: Array,
    freedom_G: Array,
) -> tuple[Array, Array]:
    """Factor by which the seeds move the optima more than independent noise would, [G], at least 1,
    and its degrees of freedom."""
    if cells.losses.shape[-1] < 2:
        return np.ones(len(freedom_G)), freedom_G
    away_GKCS = cells.losses - cells.mean[..., None]
    filled_GKCS, there_GKS = whole_deviations(away_GKCS, state.weight, state.design[..., :2])
    # the optimum is linear in the losses near the solution: dmu = gain' dloss, with gain the row
    # of the slope in posterior X' W / noise^2, over -a
    row_GKC = np.einsum("gki,gkc,gkci->gkc", own_GKPP[..., 1, :], state.weight, state.design)
    gain_GKC = -row_GKC / noise_G[:, None, None] ** 2 / state.a[..., None]
    displaced_GKS = np.einsum("gkc,gkcs->gks", gain_GKC, filled_GKCS)
    expected_GK = np.diagonal(covariance_GKK, axis1=1, axis2=2)
    return inflation(displaced_GKS, there_GKS, expected_GK, freedom_G)


def seed_lines(away_GKCS: Array, weight_GKC: Array, columns_GKCP: Array) -> Array:
    """Level and slope of each seed's deviations, evaluated at all cells, [G, K, C, S].

    Args:
        away_GKCS: each loss minus its cell's mean; NaN where a seed has no trial.
        columns_GKCP: the design of level and slope.
    """
    has_GKCS = ~np.isnan(away_GKCS)
    by_seed_GKCS = weight_GKC[..., None] * has_GKCS
    # one weighted least squares for each seed over the cells that it has
    normal_GKSPP = np.einsum("gkcs,gkci,gkcj->gksij", by_seed_GKCS, columns_GKCP, columns_GKCP)
    normal_GKSPP = normal_GKSPP + JITTER * np.eye(columns_GKCP.shape[-1])
    known_GKCS = np.where(has_GKCS, away_GKCS, 0.0)
    right_GKSP = np.einsum("gkcs,gkci,gkcs->gksi", by_seed_GKCS, columns_GKCP, known_GKCS)
    shift_GKSP = np.linalg.solve(normal_GKSPP, right_GKSP[..., None])[..., 0]
    return np.asarray(np.einsum("gkci,gksi->gkcs", columns_GKCP, shift_GKSP))


def whole_deviations(
    away_GKCS: Array, weight_GKC: Array, columns_GKCP: Array
) -> tuple[Array, Mask]:
    """Deviations with the seed's own line where it has no trial, and which seeds have enough cells
    to be counted, [G, K, S]; arguments as for `seed_lines`."""
    has_GKCS = ~np.isnan(away_GKCS)
    filled_GKCS = np.where(has_GKCS, away_GKCS, seed_lines(away_GKCS, weight_GKC, columns_GKCP))
    there_GKS = (weight_GKC[..., None] * has_GKCS).sum(2)
    return filled_GKCS, there_GKS > MOST_MISSING * weight_GKC.sum(2)[..., None]


def inflation(
    displaced_GKS: Array, there_GKS: Mask, expected_GK: Array, freedom_G: Array
) -> tuple[Array, Array]:
    """Factor on the variance of the optima, [G], at least 1, and its degrees of freedom.

    Seeds that share their data order move whole bowls. The factor is 1 unless the seeds'
    displacements exceed by F at LEVEL what independent noise explains.

    Args:
        displaced_GKS: displacement of the optimum by each seed.
        there_GKS: which seeds count.
        expected_GK: variance of the optima by independent noise.
        freedom_G: degrees of freedom behind it.
    """
    seeds_GK = there_GKS.sum(-1)
    mean_GK = (displaced_GKS * there_GKS).sum(-1) / np.maximum(seeds_GK, 1)
    # variance of the mean over seeds, against the one that independent noise gives
    squares_GK = (there_GKS * (displaced_GKS - mean_GK[..., None]) ** 2).sum(-1)
    observed_GK = squares_GK / np.maximum(seeds_GK - 1, 1) / np.maximum(seeds_GK, 1)
    counted_GK = (seeds_GK >= 2) & np.isfinite(expected_GK)
    known_GK = np.where(counted_GK, np.maximum(expected_GK, JITTER**2), 1.0)
    ratio_GK = np.where(counted_GK, observed_GK / known_GK, 0.0)
    # mean ratio over widths, each weighted by its degrees of freedom, S - 1
    by_width_GK = np.where(counted_GK, seeds_GK - 1, 0)
    of_seeds_G = by_width_GK.sum(1).astype(np.float64)
    ratio_G = (ratio_GK * by_width_GK).sum(1) / np.maximum(of_seeds_G, 1)
    limit_G = stats.f.ppf(LEVEL, np.maximum(of_seeds_G, 1), np.maximum(freedom_G, 0.5))
    alarm_G = (of_seeds_G > 0) & (ratio_G > limit_G)
    return np.where(alarm_G, ratio_G, 1.0), np.where(alarm_G, of_seeds_G, freedom_G)
