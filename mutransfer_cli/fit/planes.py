"""Two axes at once: quadratic surfaces of loss over log2 lr (x) and log2 weight decay (y).

There is one surface per width, in a soft window that follows its own optimum.
Shapes: G independent sweeps, K widths, C cells of a width, S seeds, P = 7 coefficients; XY and PQ
are pairs. Positions in octaves (log2 units), losses in nats. p runs across the ridge (the strong
direction), q along it (the weak one).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mutransfer_cli.fit.arrays import Array, Mask

WINDOW = np.array([2.5, 4.0])  # half-widths in p and q, octaves; in cells on a coarser grid
TILT = 0.2  # prior sd of the cubic column, in units of the strong curvature
STEPS, UNDAMPED, DAMPING = 14, 8, 0.6
RIDGE_ERRORS = 3.0  # pooled curvature that is told from none exceeds this many errors
DEGENERATE = 1e-8  # relative: a singular design; a weak curvature that is rounding


@dataclass(frozen=True)
class Planes:
    """Mean losses of G sweeps of two axes."""

    x: Array
    """log2 of the learning rate, [G, K, C]."""
    y: Array
    """log2 of the weight decay, [G, K, C]."""
    loss: Array
    """Mean over seeds, [G, K, C], nats."""
    weight: Array
    """Seeds in each cell, [G, K, C]; 0 where the cell is absent or diverged: its x, y and loss are
    then ignored."""
    log2_width: Array
    """[G, K], distinct within a sweep."""
    away: Array
    """Each seed's loss minus the mean, [G, K, C, S]; NaN where there is no trial."""


@dataclass(frozen=True)
class Grids:
    """Cells with absent ones zeroed."""

    xy: Array
    """[G, K, C, 2]."""
    loss: Array
    """[G, K, C]."""
    weight: Array
    """Seeds over their mean number in the sweep, [G, K, C]."""
    low: Array
    """Lowest x and y of the cells present, [G, K, 2]."""
    high: Array
    """Highest, [G, K, 2]."""
    spacing: Array
    """Median spacing, [G, K, 2]."""


@dataclass(frozen=True)
class Surfaces:
    """loss = b0 + b1 p + b2 q + b3 p^2 + b4 pq + b5 q^2 + b6 p^3 about `centre`, one per width."""

    centre: Array
    """x and y, [G, K, 2]."""
    axes: Array
    """Directions of p and of q in (x, y) as rows, [G, 2, 2]."""
    coefficients: Array
    """b0 to b6, [G, K, P]."""
    covariance: Array
    """Covariance of the coefficients, [G, K, P, P], nats^2."""
    supported: Mask
    """Whether the window holds enough cells for a quadratic, [G, K]."""
    variance: Array
    """Variance of the noise, pooled over widths, [G]."""
    freedom: Array
    """Degrees of freedom behind the variance, [G]."""
    curvature: Array
    """Coefficients of p^2, pq and q^2 pooled over widths, [G, 3]."""
    curvature_error: Array
    """Their standard errors, [G, 3]."""
    design: Array
    """Columns of the surfaces, [G, K, C, P]."""
    weight: Array
    """Weight of the cells, [G, K, C]."""
    gain: Array
    """Derivative of the coefficients by the losses, [G, K, P, C]."""


def prepare(planes: Planes) -> Grids:
    """The grids of the cells present, with weights relative to the sweep's mean number of seeds."""
    present_GKC = planes.weight > 0
    here = present_GKC[..., None]
    xy_GKCXY = np.where(here, np.stack([planes.x, planes.y], axis=-1), 0.0)
    seeds_GKC = np.where(present_GKC, planes.weight, 0.0)
    mean_G = seeds_GKC.sum((1, 2)) / np.maximum(present_GKC.sum((1, 2)), 1)
    low = np.nan_to_num(np.where(here, xy_GKCXY, np.inf).min(2), posinf=0.0)
    high = np.nan_to_num(np.where(here, xy_GKCXY, -np.inf).max(2), neginf=0.0)
    return Grids(
        xy=xy_GKCXY,
        loss=np.where(present_GKC, planes.loss, 0.0),
        weight=seeds_GKC / np.where(mean_G > 0, mean_G, 1.0)[:, None, None],
        low=low,
        high=high,
        spacing=median_spacing(np.where(here, xy_GKCXY, high[:, :, None])),
    )


def median_spacing(xy_GKCXY: Array) -> Array:
    """Median distance of neighbouring distinct values, [G, K, 2]; 1 where there are none."""
    ordered = np.sort(xy_GKCXY, axis=2)
    gap = np.diff(ordered, axis=2, prepend=ordered[:, :, :1])
    gap = np.sort(np.where(gap > DEGENERATE, gap, np.inf), axis=2)
    middle = np.maximum(np.isfinite(gap).sum(2, keepdims=True) - 1, 0) // 2
    median = np.take_along_axis(gap, middle, axis=2)[:, :, 0]
    return np.where(np.isfinite(median), median, 1.0)


def settle(planes: Planes) -> tuple[Surfaces, Grids]:
    """Surfaces whose windows are centred on their optima, p across the ridge.

    Along a ridge a window stays at the middle of the grid: the optimum there is noise.
    """
    grids = prepare(planes)
    centre_GKXY = (grids.low + grids.high) / 2
    angle_G = np.full(len(centre_GKXY), np.pi / 4)
    stiff_G = np.full(len(centre_GKXY), 1 / DEGENERATE)
    surfaces = fit_surfaces(grids, centre_GKXY, angle_G, stiff_G)
    for step in range(STEPS):
        factor = 1.0 if step < UNDAMPED else DAMPING
        strong_G, cross_G, weak_G = surfaces.curvature.T
        centre_GKXY = recentre(surfaces, grids, factor)
        # turn p towards the eigenvector of the pooled form: half of atan2(b4, b3 - b5)
        turned_G = factor * np.arctan2(cross_G, strong_G - weak_G) / 2
        angle_G = positive_sum(angle_G + turned_G)
        # prior precision of the cubic column over the noise
        tilt_G = TILT * np.maximum(np.abs(strong_G), np.abs(weak_G))
        stiff_G = surfaces.variance / np.where(tilt_G > 0, tilt_G, 1.0) ** 2
        surfaces = fit_surfaces(grids, centre_GKXY, angle_G, stiff_G)
    return surfaces, grids


def positive_sum(angle: Array) -> Array:
    """The same axis turned to radians in (-pi/4, 3 pi/4]: cos + sin is not negative."""
    return np.asarray(3 * np.pi / 4 - np.mod(3 * np.pi / 4 - angle, np.pi))


def recentre(surfaces: Surfaces, grids: Grids, factor: float) -> Array:
    """Centres [G, K, 2] one step nearer to the optima, at most a cell, inside the grid."""
    pooled, error = surfaces.curvature[:, None, [0, 2]], surfaces.curvature_error[:, None, [0, 2]]
    own, slope = surfaces.coefficients[..., [3, 5]], surfaces.coefficients[..., 1:3]
    # Newton along p and along q, each only where its pooled curvature is seen
    resolved = pooled > RIDGE_ERRORS * error
    curvature = np.where(resolved, np.maximum(own, pooled), 1.0)
    step_GKPQ = np.where(resolved, -slope / (2 * curvature), 0.0)
    move_GKXY = (step_GKPQ[..., None, :] @ surfaces.axes[:, None])[..., 0, :]
    move_GKXY = factor * np.clip(move_GKXY, -grids.spacing, grids.spacing)
    return np.clip(surfaces.centre + move_GKXY, grids.low, grids.high)


def fit_surfaces(grids: Grids, centre_GKXY: Array, angle_G: Array, stiff_G: Array) -> Surfaces:
    """Weighted least squares at every width in soft windows around the centre.

    Windows are short across the ridge, where bowls are steeper on one side far from the optimum,
    and long along it, where curvature is hard to see.
    The p^3 column keeps the steeper side of a bowl out of the optimum, which matters when optima
    move relative to the grid; its coefficient has prior mean 0 and precision `stiff_G` over the
    noise.
    """
    # rotate the cells to (p, q) about the centre; edges fall to 0 over one cell
    cos, sin = np.cos(angle_G), np.sin(angle_G)
    axes = np.stack([cos, sin, -sin, cos], axis=-1).reshape(-1, 2, 2)
    turn = np.swapaxes(axes, 1, 2)
    pq_GKCPQ = (grids.xy - centre_GKXY[:, :, None]) @ turn[:, None]
    spacing = np.sqrt(grids.spacing**2 @ turn**2)[:, :, None]
    edges = (WINDOW * np.maximum(1.0, spacing) + spacing / 2 - np.abs(pq_GKCPQ)) / spacing
    window_GKC = np.clip(edges, 0, 1).prod(-1) * (grids.weight > 0)
    p, q = np.moveaxis(pq_GKCPQ, -1, 0)
    X_GKCP = np.stack([np.ones_like(p), p, q, p**2, p * q, q**2, p**3], axis=-1)
    weight_GKC = window_GKC * grids.weight
    # coefficients (X' W X + prior)^-1 X' W loss
    Xt_GKPC = np.swapaxes(X_GKCP, -1, -2)
    normal_GKPP = Xt_GKPC @ (weight_GKC[..., None] * X_GKCP)
    supported_GK = well_posed(normal_GKPP[..., :6, :6])
    there = supported_GK[..., None, None]
    prior_GKPP = np.zeros_like(normal_GKPP)
    prior_GKPP[..., 6, 6] = stiff_G[:, None] + DEGENERATE * (1 + normal_GKPP[..., 6, 6])
    posterior_GKPP = np.linalg.inv(np.where(there, normal_GKPP + prior_GKPP, np.eye(7)))
    moments_GKP1 = Xt_GKPC @ (weight_GKC * grids.loss)[..., None]
    solution_GKP = (posterior_GKPP @ moments_GKP1)[..., 0]
    coefficients_GKP = np.where(supported_GK[..., None], solution_GKP, 0.0)
    residual_GKC = grids.loss - (X_GKCP @ coefficients_GKP[..., None])[..., 0]
    # Degrees of freedom: the expectation of the weighted squares over the noise. With B = X' V W X,
    # V the window (a cell's variance times its weight), A the posterior and N = X' W X it is
    # tr V - 2 tr(A B) + tr(A B A N).
    smoother_GKPP = posterior_GKPP @ (Xt_GKPC @ ((window_GKC * weight_GKC)[..., None] * X_GKCP))
    lost_GK = 2 * np.trace(smoother_GKPP, axis1=-2, axis2=-1)
    lost_GK -= np.trace(smoother_GKPP @ posterior_GKPP @ normal_GKPP, axis1=-2, axis2=-1)
    freedom_G = np.where(supported_GK, window_GKC.sum(-1) - lost_GK, 0.0).sum(-1)
    squares_G = np.where(supported_GK, (weight_GKC * residual_GKC**2).sum(-1), 0.0).sum(-1)
    variance_G = np.where(freedom_G > 0, squares_G / np.where(freedom_G > 0, freedom_G, 1.0), 0.0)
    curvature, unscaled = pool(
        coefficients_GKP[..., 3:6], posterior_GKPP[..., 3:6, 3:6], supported_GK
    )
    return Surfaces(
        centre=centre_GKXY,
        axes=axes,
        coefficients=coefficients_GKP,
        covariance=posterior_GKPP * variance_G[:, None, None, None],
        supported=supported_GK,
        variance=variance_G,
        freedom=freedom_G,
        curvature=curvature,
        curvature_error=np.sqrt(variance_G[:, None] * unscaled),
        design=X_GKCP,
        weight=weight_GKC,
        gain=posterior_GKPP @ (Xt_GKPC * weight_GKC[..., None, :]),
    )


def well_posed(normal: Array) -> Mask:
    """Whether normal equations [..., P, P] have a solution that is not rounding: the least
    eigenvalue after scaling the diagonal to 1."""
    diagonal = np.diagonal(normal, axis1=-2, axis2=-1)
    scale = np.where(diagonal > 0, diagonal, 1.0) ** -0.5
    eigenvalues = np.linalg.eigvalsh(normal * scale[..., None, :] * scale[..., :, None])
    return np.asarray(eigenvalues[..., 0] > DEGENERATE)


def pool(values: Array, covariance: Array, supported_GK: Mask) -> tuple[Array, Array]:
    """Mean over widths of values [G, K, n] with covariance [G, K, n, n], and its variances; [G, n]
    each.

    Each width has one weight, the same for all coefficients: widths of unequal curvature but the
    same axes then pool to those axes.
    """
    # a width weighs by the inverse of the trace of its covariance
    variances = np.diagonal(covariance, axis1=-2, axis2=-1)
    weight_GK = np.where(supported_GK, 1 / variances.sum(-1), 0.0)
    total_G1 = weight_GK.sum(1, keepdims=True)
    weight = (weight_GK / np.where(total_G1 > 0, total_G1, 1.0))[..., None]
    return (weight * values).sum(1), (weight**2 * variances).sum(1)
