"""Two axes at once: quadratic surfaces of loss over log2 lr (x) and log2 weight decay (y).

One surface a width, in a soft window that follows its own optimum.

Shapes: G independent sweeps, K widths, C cells a width. Positions in octaves (log2 units), losses
in nats. p runs across the ridge (the strong direction), q along it (the weak one).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

WINDOW = np.array([2.5, 4.0])  # half-widths in p and q, octaves; in cells on a coarser grid
TILT = 0.2  # prior sd of the cubic column, in units of the strong curvature
STEPS, UNDAMPED, DAMPING = 14, 8, 0.6
RIDGE_ERRORS = 3.0  # pooled curvature that is told from none exceeds this many errors
DEGENERATE = 1e-8  # relative: a singular design; a weak curvature that is rounding


@dataclass(frozen=True)
class Planes:
    """Mean losses of G sweeps of two axes.

    Attributes:
        x, y: log2 of the two hyperparameters, [G, K, C].
        loss: mean over seeds, nats, [G, K, C].
        weight: seeds in each cell, [G, K, C]; 0 where the cell is absent or diverged (its x, y and
            loss are then not looked at).
        log2_width: [G, K], distinct within a sweep.
        away: of each seed's loss from the mean, [G, K, C, S]; NaN where there is no trial.
    """

    x: Array
    y: Array
    loss: Array
    weight: Array
    log2_width: Array
    away: Array


@dataclass(frozen=True)
class Grids:
    """Cells with absent ones zeroed. low, high, spacing: [G, K, 2], of the cells present."""

    xy: Array
    loss: Array
    weight: Array
    low: Array
    high: Array
    spacing: Array


@dataclass(frozen=True)
class Surfaces:
    """loss = b0 + b1 p + b2 q + b3 p^2 + b4 pq + b5 q^2 + b6 p^3 about `centre`, one a width.

    Attributes:
        centre: [G, K, 2], x and y.
        axes: [G, 2, 2], rows are the directions of p and q in (x, y).
        coefficients: [G, K, 7].
        covariance: [G, K, 7, 7], nats^2.
        supported: [G, K], the window holds cells enough for a quadratic.
        variance, freedom: [G], of the noise, pooled over widths.
        curvature: [G, 3], coefficients of p^2, pq, q^2 pooled over widths.
        curvature_error: [G, 3].
        design: columns of the surfaces, [G, K, C, 7].
        weight: of the cells, [G, K, C].
        gain: how a loss moves a coefficient, [G, K, 7, C].
    """

    centre: Array
    axes: Array
    coefficients: Array
    covariance: Array
    supported: Mask
    variance: Array
    freedom: Array
    curvature: Array
    curvature_error: Array
    design: Array
    weight: Array
    gain: Array


def prepare(planes: Planes) -> Grids:
    present = planes.weight > 0
    here = present[..., None]
    xy = np.where(here, np.stack([planes.x, planes.y], axis=-1), 0.0)
    seeds = np.where(present, planes.weight, 0.0)
    mean = seeds.sum((1, 2)) / np.maximum(present.sum((1, 2)), 1)
    low = np.nan_to_num(np.where(here, xy, np.inf).min(2), posinf=0.0)
    high = np.nan_to_num(np.where(here, xy, -np.inf).max(2), neginf=0.0)
    return Grids(
        xy=xy,
        loss=np.where(present, planes.loss, 0.0),
        weight=seeds / np.where(mean > 0, mean, 1.0)[:, None, None],
        low=low,
        high=high,
        spacing=median_spacing(np.where(here, xy, high[:, :, None])),
    )


def median_spacing(xy: Array) -> Array:
    """Median distance of neighbouring distinct values, [G, K, C, 2] to [G, K, 2]."""
    ordered = np.sort(xy, axis=2)
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
    centre = (grids.low + grids.high) / 2
    angle = np.full(len(centre), np.pi / 4)
    stiff = np.full(len(centre), 1 / DEGENERATE)
    surfaces = fit_surfaces(grids, centre, angle, stiff)
    for step in range(STEPS):
        factor = 1.0 if step < UNDAMPED else DAMPING
        strong, cross, weak = surfaces.curvature.T
        centre = recentre(surfaces, grids, factor)
        angle = positive_sum(angle + factor * np.arctan2(cross, strong - weak) / 2)
        tilt = TILT * np.maximum(np.abs(strong), np.abs(weak))
        stiff = surfaces.variance / np.where(tilt > 0, tilt, 1.0) ** 2
        surfaces = fit_surfaces(grids, centre, angle, stiff)
    return surfaces, grids


def positive_sum(angle: Array) -> Array:
    """The same axis turned to radians in (-pi/4, 3 pi/4]: cos + sin is not negative."""
    return np.asarray(3 * np.pi / 4 - np.mod(3 * np.pi / 4 - angle, np.pi))


def recentre(surfaces: Surfaces, grids: Grids, factor: float) -> Array:
    """Centres [G, K, 2] one step nearer to the optima, at most a cell, inside the grid."""
    pooled, error = surfaces.curvature[:, None, [0, 2]], surfaces.curvature_error[:, None, [0, 2]]
    own, slope = surfaces.coefficients[..., [3, 5]], surfaces.coefficients[..., 1:3]
    resolved = pooled > RIDGE_ERRORS * error
    step = np.where(resolved, -slope / (2 * np.where(resolved, np.maximum(own, pooled), 1.0)), 0.0)
    move = (step[..., None, :] @ surfaces.axes[:, None])[..., 0, :]
    move = factor * np.clip(move, -grids.spacing, grids.spacing)
    return np.clip(surfaces.centre + move, grids.low, grids.high)


def fit_surfaces(grids: Grids, centre: Array, angle: Array, stiff: Array) -> Surfaces:
    """Weighted least squares at every width in soft windows around `centre`.

    Windows are short across the ridge, where bowls are steeper on one side far from the optimum,
    and long along it, where curvature is hard to see.
    The p^3 column keeps the steeper side of a bowl out of the optimum, which matters when optima
    move relative to the grid; its coefficient has prior mean 0 and precision `stiff` over the
    noise, [G]. Degrees of freedom: what the weighted squares are in expectation, over the noise.
    """
    cos, sin = np.cos(angle), np.sin(angle)
    axes = np.stack([cos, sin, -sin, cos], axis=-1).reshape(-1, 2, 2)
    turn = np.swapaxes(axes, 1, 2)
    pq = (grids.xy - centre[:, :, None]) @ turn[:, None]
    spacing = np.sqrt(grids.spacing**2 @ turn**2)[:, :, None]
    edges = (WINDOW * np.maximum(1.0, spacing) + spacing / 2 - np.abs(pq)) / spacing
    window = np.clip(edges, 0, 1).prod(-1) * (grids.weight > 0)
    p, q = np.moveaxis(pq, -1, 0)
    X = np.stack([np.ones_like(p), p, q, p**2, p * q, q**2, p**3], axis=-1)
    weight = window * grids.weight
    Xt = np.swapaxes(X, -1, -2)
    normal = Xt @ (weight[..., None] * X)
    supported = well_posed(normal[..., :6, :6])
    prior = np.zeros_like(normal)
    prior[..., 6, 6] = stiff[:, None] + DEGENERATE * (1 + normal[..., 6, 6])
    posterior = np.linalg.inv(np.where(supported[..., None, None], normal + prior, np.eye(7)))
    moments = Xt @ (weight * grids.loss)[..., None]
    coefficients = np.where(supported[..., None], (posterior @ moments)[..., 0], 0.0)
    residual = grids.loss - (X @ coefficients[..., None])[..., 0]
    smoother = posterior @ (Xt @ ((window * weight)[..., None] * X))
    lost = 2 * np.trace(smoother, axis1=-2, axis2=-1)
    lost -= np.trace(smoother @ posterior @ normal, axis1=-2, axis2=-1)
    freedom = np.where(supported, window.sum(-1) - lost, 0.0).sum(-1)
    squares = np.where(supported, (weight * residual**2).sum(-1), 0.0).sum(-1)
    variance = np.where(freedom > 0, squares / np.where(freedom > 0, freedom, 1.0), 0.0)
    curvature, unscaled = pool(coefficients[..., 3:6], posterior[..., 3:6, 3:6], supported)
    return Surfaces(
        centre=centre,
        axes=axes,
        coefficients=coefficients,
        covariance=posterior * variance[:, None, None, None],
        supported=supported,
        variance=variance,
        freedom=freedom,
        curvature=curvature,
        curvature_error=np.sqrt(variance[:, None] * unscaled),
        design=X,
        weight=weight,
        gain=posterior @ (Xt * weight[..., None, :]),
    )


def well_posed(normal: Array) -> Mask:
    """Whether normal equations [..., n, n] have a solution that is not rounding."""
    diagonal = np.diagonal(normal, axis1=-2, axis2=-1)
    scale = np.where(diagonal > 0, diagonal, 1.0) ** -0.5
    eigenvalues = np.linalg.eigvalsh(normal * scale[..., None, :] * scale[..., :, None])
    return np.asarray(eigenvalues[..., 0] > DEGENERATE)


def pool(values: Array, covariance: Array, supported: Mask) -> tuple[Array, Array]:
    """Mean over widths and its variances: [G, K, n], [G, K, n, n] to [G, n] twice.

    One weight a width, for all coefficients: widths of unequal curvature but the same axes then
    pool to those axes.
    """
    variances = np.diagonal(covariance, axis1=-2, axis2=-1)
    weight = np.where(supported, 1 / variances.sum(-1), 0.0)
    total = weight.sum(1, keepdims=True)
    weight = (weight / np.where(total > 0, total, 1.0))[..., None]
    return (weight * values).sum(1), (weight**2 * variances).sum(1)
