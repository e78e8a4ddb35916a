"""The optimum at every width of a sweep, from tilted bowls whose tilts are partially pooled.

    loss = b + a phi(x - mu; tilt),  tilts ~ N(0, 0.2^2 I + 1.0^2 11')
    phi(d; L) = 2 (exp(L d) - 1 - L d) / L^2 = d^2 + L d^3 / 3 + L^2 d^4 / 12 + ...

phi is a parabola steeper on one side: linear far below the optimum, exponential above it. A soft
window follows mu; a tilt common to all widths is almost free, and widths may differ a little from
it. Where the bowls of a sweep miss its cells by more than the noise, a term q (x - mu)^4 is added:
bowls may be flatter at the bottom, never sharper. `reference.py` fits one sweep by the same method
in plain steps.
Shapes: G sweeps at once, K widths, C cells, S columns of runs, P = 4 columns, 5 with the quartic
term. x and mu in octaves, losses in units of the excess of a low cell (Cells.normalised).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from mutransfer_cli.fit.arrays import JITTER, Array, Mask, nanmedian, put, rows
from mutransfer_cli.fit.cells import Cells
from mutransfer_cli.fit.phi import NARROW, WIDE, distance, reach, shape, window
from mutransfer_cli.fit.seeds import inflation, whole_deviations

STEPS, UNDAMPED, DAMPING = 14, 8, 0.6  # of Gauss-Newton
OWN_TILT, COMMON_TILT = 0.2, 1.0  # prior sd per octave
TILT_STEP, TILT_RANGE = 0.4, (-1.2, 1.8)
LEAST_CURVATURE = 1e-2  # per octave^2, of the excess of a low cell
QUARTIC = 1.0  # prior sd of q, excess of a low cell per (two cells)^4
PINNED = 1e9  # precision of a curvature that is held
CHANCE = 0.999  # F quantile of the misfit from which on the quartic term is added
OUTLYING = 4.0  # times the median mean square: noisier widths stay out of the pool


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
    quartic: Array
    """q, [G, K]; 0 where the term is not needed."""
    tilt_covariance: Array
    """Covariance of the errors of the tilts, [G, K, K]."""
    slope: Array
    """Remaining derivative of the loss at mu over that of d^2 / 2, [G, K]."""
    covariance: Array
    """Covariance of the errors of the optima, [G, K, K]."""
    coefficient_covariance: Array
    """Covariance of b, slope, a, change of tilt and q, [G, K, 5, 5]."""
    noise: Array
    """Sd of a cell mean, [G, K], at the sweep's mean number of seeds."""
    freedom: Array
    """Degrees of freedom behind the noise, [G]."""
    weight: Array
    """Weight of each cell in the window, [G, K, C]."""
    narrow: Array
    """Optimum by the same bowl in a narrower window, [G, K]: a check on the form."""
    fitted: Array
    """The bowl at each cell, [G, K, C]."""
    leverage: Array
    """Share of each cell's own mean in its fitted value, [G, K, C]; 0 outside the window."""

    def misfit(self, cells: Cells) -> Misfit:
        """How far the cells are off the bowls."""
        return _misfit(cells, self.weight, self.fitted, self.leverage)


@dataclass(frozen=True)
class Misfit:
    """Squares, in those of a cell of the mean number of runs, and their degrees of freedom, which
    count cells by their weight in the window; [G, K] each."""

    squares: Array
    """By which the bowls miss the cell means."""
    freedom: Array
    """Below 0 where a window holds fewer cells than the bowl has parameters."""
    within_squares: Array
    """Within the cells, net of the lines of seeds, which shift whole bowls."""
    within_freedom: Array

    @property
    def all_squares(self) -> Array:
        return self.squares + self.within_squares

    @property
    def all_freedom(self) -> Array:
        return np.maximum(self.freedom, 0) + self.within_freedom


def _misfit(cells: Cells, weight_GKC: Array, fitted_GKC: Array, leverage_GKC: Array) -> Misfit:
    mean_n_G11 = cells.mean_n[:, None, None]
    soft_GKC = weight_GKC * mean_n_G11 / np.maximum(cells.n, 1)
    return Misfit(
        squares=(weight_GKC * (cells.mean - fitted_GKC) ** 2).sum(-1),
        freedom=(soft_GKC - leverage_GKC).sum(-1),
        within_squares=(soft_GKC * (cells.away**2).sum(-1) / mean_n_G11).sum(-1),
        within_freedom=(soft_GKC * np.maximum(cells.n - 1, 0)).sum(-1) * cells.freedom,
    )


def predicted(bowls: Bowls, cells: Cells) -> tuple[Array, Array]:
    """The bowls at all cells and their variance there, [G, K, C] each; cells far beyond the window
    count as a cell beyond it."""
    edge_GK1 = (reach(cells) + cells.spacing)[..., None]
    d_GKC = np.clip(cells.x - bowls.optimum[..., None], -edge_GK1, edge_GK1)
    design_GKCP = _columns(d_GKC, bowls.curvature, bowls.tilt, bowls.quartic, 5)
    fitted_GKC = bowls.loss[..., None] + bowls.curvature[..., None] * design_GKCP[..., 2]
    fitted_GKC += bowls.quartic[..., None] * design_GKCP[..., 4]
    covariance_GKPP = bowls.coefficient_covariance
    variance_GKC = ((design_GKCP @ covariance_GKPP) * design_GKCP).sum(-1)
    return fitted_GKC, variance_GKC


def fit_parabolas(cells: Cells) -> tuple[Array, Array]:
    """Optimum and curvature [G, K] of soft-window parabolas: where the tilted bowls start.

    Each window is recentred on its own vertex, at most a cell a step.
    """
    centre_GK, spacing_GK = cells.at(cells.x, cells.best), cells.spacing
    low_GK, high_GK = cells.first - spacing_GK, cells.last + spacing_GK
    curvature_GK = np.zeros_like(centre_GK)
    for _ in range(STEPS):
        weight_GKC = window(cells, centre_GK, NARROW)
        d_GKC = distance(cells, centre_GK)
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
    weighted_GKPC = np.swapaxes(design_GKCP * weight_GKC[..., None], -1, -2)
    normal_GKPP = weighted_GKPC @ design_GKCP + JITTER * np.eye(design_GKCP.shape[-1])
    return normal_GKPP, (weighted_GKPC @ loss_GKC[..., None])[..., 0]


@dataclass(frozen=True)
class _State:
    """One Gauss-Newton state: mu, a, tilt and q [G, K], and the linear system behind the next."""

    mu: Array
    a: Array
    tilt: Array
    quartic: Array
    weight: Array
    """Window, [G, K, C]."""
    design: Array
    """Columns of `_columns`, [G, K, C, P]."""
    precision: Array
    """Left side of the normal equations, [G, K P, K P]: the prior couples the widths."""
    right: Array
    """Right side, [G, K, P]."""

    def solve(self) -> Array:
        """(b, slope, a, change of tilt, q) of every width, [G, K, P]."""
        solution = np.linalg.solve(self.precision, self.right.reshape(len(self.mu), -1, 1))
        return np.asarray(solution.reshape(self.right.shape), dtype=np.float64)


def fit_bowls(cells: Cells, first_noise_G: Array, flat_G: Mask | None = None) -> Bowls:
    """Fit all widths of each sweep together; with a quartic term where bowls miss their cells.

    Args:
        first_noise_G: sd of a cell mean; weighs the losses against the prior of the tilts, and
            measures the misfit.
        flat_G: sweeps that may have the term although their bowls miss nothing.
    """
    bowls = _fitted(cells, first_noise_G, 4)
    missing_G = misses(cells, bowls, first_noise_G)
    at_G = np.flatnonzero(missing_G if flat_G is None else missing_G | flat_G)
    if not at_G.size:
        return bowls
    flatter = _fitted(rows(cells, at_G), first_noise_G[at_G], 5)
    is_flat_G = np.median(flatter.quartic, axis=1) > 0
    put(bowls, at_G[is_flat_G], rows(flatter, is_flat_G))
    return bowls


def _fitted(cells: Cells, noise_G: Array, columns: int) -> Bowls:
    return _with_errors(cells, _gauss_newton(cells, noise_G, columns), noise_G)


def misses(cells: Cells, bowls: Bowls, noise_G: Array) -> Mask:
    """Whether the bowls of a sweep miss its cells by more than the noise explains, [G]."""
    misfit = bowls.misfit(cells)
    squares_G, freedom_G = misfit.squares.sum(1), misfit.freedom.sum(1)
    # half the degrees of freedom that a median takes its noise from
    of_noise_G = np.maximum((cells.n - 1) * cells.present, 0).sum((1, 2)) / 2
    of_noise_G = np.maximum(of_noise_G, np.maximum(cells.count - 3, 1).sum(1) / 2)
    limit_G = stats.f.ppf(CHANCE, np.maximum(freedom_G, 1), of_noise_G)
    return np.asarray((freedom_G >= 1) & (squares_G > limit_G * freedom_G * noise_G**2))


def _gauss_newton(cells: Cells, noise_G: Array, columns: int) -> _State:
    """The state at the solution.

    About the current (mu, a, tilt, q) the model is linear: loss = b - dmu (a dphi/dd + 4 q d^3) +
    a' phi + dtilt a dphi/dtilt + q' d^4. So mu moves by minus the slope over the curvature.
    """
    mu_GK, curvature_GK = fit_parabolas(cells)
    a_GK = np.maximum(curvature_GK, LEAST_CURVATURE)
    tilt_GK, quartic_GK = np.zeros_like(mu_GK), np.zeros_like(mu_GK)
    spacing_GK = cells.spacing
    low_GK, high_GK = cells.first - spacing_GK, cells.last + spacing_GK
    for step in range(STEPS if columns == 4 else 3 * STEPS):
        state = _system(cells, (mu_GK, a_GK, tilt_GK, quartic_GK), noise_G, columns)
        _, slope_GK, new_a_GK, tilt_step_GK, *more = np.moveaxis(state.solve(), -1, 0)
        damping = 1.0 if step < UNDAMPED else DAMPING if step < STEPS else DAMPING**3
        a_GK = np.maximum(new_a_GK, LEAST_CURVATURE)
        move_GK = np.clip(-slope_GK / a_GK, -spacing_GK, spacing_GK)
        mu_GK = np.clip(mu_GK + damping * move_GK, low_GK, high_GK)
        tilt_GK = tilt_GK + damping * np.clip(tilt_step_GK, -TILT_STEP, TILT_STEP)
        tilt_GK = np.clip(tilt_GK, *TILT_RANGE)
        quartic_GK = np.maximum(more[0], 0) if more else quartic_GK
    return _system(cells, (mu_GK, a_GK, tilt_GK, quartic_GK), noise_G, columns)


def _columns(d_GKC: Array, a_GK: Array, tilt_GK: Array, quartic_GK: Array, columns: int) -> Array:
    """The first P of 1, (a dphi/dd + 4 q d^3) / a, phi, a dphi/dtilt and d^4, [G, K, C, P]."""
    phi_GKC, by_distance_GKC, by_tilt_GKC = shape(d_GKC, tilt_GK[..., None])
    if quartic_GK.any():
        by_distance_GKC = by_distance_GKC + 4 * (quartic_GK / a_GK)[..., None] * d_GKC**3
    found = [np.ones_like(d_GKC), by_distance_GKC, phi_GKC, a_GK[..., None] * by_tilt_GKC]
    return np.stack([*found, *([d_GKC**4] if columns > 4 else [])][:columns], axis=-1)


def _system(
    cells: Cells, parameters: tuple[Array, Array, Array, Array], noise_G: Array, columns: int
) -> _State:
    """The normal equations of all widths: those of each over noise^2 as blocks of P x P, plus the
    priors; that of the tilts couples different widths."""
    mu_GK, _, tilt_GK, _ = parameters
    weight_GKC, d_GKC = window(cells, mu_GK, WIDE), distance(cells, mu_GK)
    design_GKCP = _columns(d_GKC, *parameters[1:], columns)
    squares_GKPP, right_GKP = _normal_equations(weight_GKC, design_GKCP, cells.mean)
    (g, k), p = mu_GK.shape, columns
    # blocks X' W X / noise^2 on the diagonal, the prior between the tilts of all widths
    each, prior_KK = np.arange(k), prior_precision(k)
    precision_GKPKP = np.zeros((g, k, p, k, p))
    variance_G11 = noise_G[:, None, None] ** 2
    precision_GKPKP[:, each, :, each, :] = np.moveaxis(squares_GKPP / variance_G11[..., None], 1, 0)
    precision_GKPKP[:, :, 3, :, 3] += prior_KK
    if columns > 4:
        precision_GKPKP[:, each, 4, each, 4] += ((2 * cells.spacing) ** 4 / QUARTIC) ** 2
    # the unknown is the change of tilt, whose prior mean is minus the tilt so far
    right_GKP = right_GKP / variance_G11
    right_GKP[..., 3] -= tilt_GK @ prior_KK
    precision = precision_GKPKP.reshape(g, k * p, k * p)
    state = _State(*parameters, weight_GKC, design_GKCP, precision, right_GKP)
    if columns > 4:
        # a curvature below the least one is held there: otherwise bowls of two minima would fit
        held_GK = PINNED * (state.solve()[..., 2] < LEAST_CURVATURE)
        precision_GKPKP[:, each, 2, each, 2] += held_GK
        right_GKP[..., 2] += LEAST_CURVATURE * held_GK
        state = replace(state, precision=precision_GKPKP.reshape(precision.shape), right=right_GKP)
    return state


def prior_precision(k: int) -> Array:
    """Inverse of the prior covariance of the tilts of K widths, [K, K]."""
    covariance_KK = OWN_TILT**2 * np.eye(k) + COMMON_TILT**2 * np.ones((k, k))
    return np.linalg.inv(covariance_KK).astype(np.float64)


def narrow_optima(cells: Cells, state: _State) -> Array:
    """Optima [G, K] of bowls of the same tilt and q in the narrow window, by Gauss-Newton."""
    spacing_GK, mu_GK, a_GK = cells.spacing, state.mu, state.a
    for _ in range(UNDAMPED):
        weight_GKC, d_GKC = window(cells, mu_GK, NARROW), distance(cells, mu_GK)
        design_GKCP = _columns(d_GKC, a_GK, state.tilt, state.quartic, 3)
        beside_GKC = cells.mean - state.quartic[..., None] * d_GKC**4
        normal_GKPP, right_GKP = _normal_equations(weight_GKC, design_GKCP, beside_GKC)
        solution_GKP = np.linalg.solve(normal_GKPP, right_GKP[..., None])[..., 0]
        a_GK = np.maximum(solution_GKP[..., 2], LEAST_CURVATURE)
        step_GK = np.clip(-solution_GKP[..., 1] / a_GK, -spacing_GK, spacing_GK)
        mu_GK = np.clip(mu_GK + step_GK, state.mu - spacing_GK, state.mu + spacing_GK)
    return mu_GK


def _with_errors(cells: Cells, state: _State, first_noise_G: Array) -> Bowls:
    """Posterior covariances at the solution, scaled from the first noise to the one now found."""
    (g, k, p), solution_GKP = state.right.shape, state.solve()
    posterior_GKPKP = np.linalg.inv(state.precision).astype(np.float64).reshape(g, k, p, k, p)
    fitted_GKC = np.einsum("gkci,gki->gkc", state.design, solution_GKP)
    each = np.arange(k)
    own_GKPP: Array = np.moveaxis(posterior_GKPKP[:, each, :, each, :], 0, 1)
    # diagonal of the hat matrix X posterior X' W / noise^2
    hat_GKC = ((state.design @ own_GKPP) * state.design).sum(-1)
    hat_GKC = hat_GKC * state.weight / first_noise_G[:, None, None] ** 2
    noise_GK, freedom_G = _noise(_misfit(cells, state.weight, fitted_GKC, hat_GKC))
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
    coefficient_GKPP = np.zeros((g, k, 5, 5))
    coefficient_GKPP[..., :p, :p] = (relative_GK**2 * moved_G[:, None])[..., None, None] * own_GKPP
    return Bowls(
        optimum=state.mu,
        loss=solution_GKP[..., 0],
        curvature=state.a,
        tilt=state.tilt,
        quartic=state.quartic,
        tilt_covariance=tilt_covariance_GKK,
        slope=solution_GKP[..., 1],
        covariance=covariance_GKK * moved_G[:, None, None],
        coefficient_covariance=coefficient_GKPP,
        noise=noise_GK,
        freedom=freedom_G,
        weight=state.weight,
        narrow=narrow_optima(cells, state),
        fitted=fitted_GKC,
        leverage=hat_GKC,
    )


def _noise(misfit: Misfit) -> tuple[Array, Array]:
    """Sd of the mean of a cell with the sweep's mean number of runs, by width [G, K], and the
    degrees of freedom [G], pooled over widths.

    From the misfit of the cells and from the runs within them. Widths far above the median
    stay out of the pool; a width above it by F at 1% keeps its own.
    """
    squares_GK, freedom_GK = misfit.all_squares, misfit.all_freedom
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
    if not cells.seeded.any():
        return np.ones(len(freedom_G)), freedom_G
    away_GKCS = cells.losses - cells.mean[..., None]
    filled_GKCS, there_GKS = whole_deviations(away_GKCS, state.weight, state.design[..., :2])
    there_GKS &= cells.seeded
    # the optimum is linear in the losses near the solution: dmu = gain' dloss, with gain the row
    # of the slope in posterior X' W / noise^2, over -a
    row_GKC = np.einsum("gki,gkc,gkci->gkc", own_GKPP[..., 1, :], state.weight, state.design)
    gain_GKC = -row_GKC / noise_G[:, None, None] ** 2 / state.a[..., None]
    displaced_GKS = np.einsum("gkc,gkcs->gks", gain_GKC, filled_GKCS)
    expected_GK = np.diagonal(covariance_GKK, axis1=1, axis2=2)
    return inflation(displaced_GKS, there_GKS, expected_GK, freedom_G)
