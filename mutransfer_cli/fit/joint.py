"""The optimum of two axes across widths: where there is one, and a ridge where there is not.

Learning rate and weight decay often act through their product alone: the bowl is then a ridge, and
the position along it is noise. A ridge is called one, and only what lies across it is given an
exponent. Shapes and axes as in planes.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from scipy import stats

from mutransfer_cli.fit.bowls import inflation, whole_deviations
from mutransfer_cli.fit.judge import NEAR_EDGE
from mutransfer_cli.fit.law import MIN_WIDTHS, LawFit, Laws, fit_laws, laws_where
from mutransfer_cli.fit.planes import (
    DEGENERATE,
    RIDGE_ERRORS,
    Grids,
    Planes,
    Surfaces,
    positive_sum,
    settle,
)

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

OWN_ERRORS = 2.0  # curvature of one width across the ridge exceeds so many errors
RIDGE_SPREAD = 1.0  # octaves: largest error of an optimum along the weak direction


@dataclass(frozen=True)
class Joint:
    """The fit of G sweeps. Floats are NaN where the status gives them no meaning.

    Attributes:
        status: [G], `ok`, `ridge` or `insufficient` (fewer than three widths with an optimum
            across the ridge inside the grid, or no curvature at all).
        used: [G, K], widths that take part across widths.
        width_status, side: [G, K], why a width does not, as in judge.py; `high` is towards more of
            both hyperparameters.
        vertices: [G, K, 2], optimum (x, y) of each used width; of sweeps that are not flat along
            the weak direction, `insufficient` ones too.
        covariance: [G, K, 2, 2], of the vertices, octaves^2.
        loss: [G, K], at the vertices, nats.
        own_curvature: [G, K, 2], along x and y at each vertex, nats per octave^2.
        near_edge: [G, K, 2], the vertex is less than an octave from an end of x or y.
        across_optimum, across_variance: [G, K], position across the ridge, scaled as `across`; of
            `ridge` sweeps.
        lr, wd, product: laws of x, y and the product direction in log2 width; of `ok` sweeps.
        across: law of the position across the ridge, times the length of the product direction,
            so that along it it is the law of the product; of `ridge` sweeps.
        angle, angle_error: [G], direction across the ridge, degrees from the lr axis in (-45, 135],
            and its standard error. 45: only lr * wd matters; 0: only lr; 90: only wd.
        product_only: [G], a ridge whose angle is compatible with the product direction.
        noise: [G], sd of a cell's mean loss at the mean number of seeds, nats.
        freedom: [G], degrees of freedom behind the noise.
    """

    status: npt.NDArray[np.str_]
    used: Mask
    width_status: npt.NDArray[np.str_]
    side: npt.NDArray[np.str_]
    vertices: Array
    covariance: Array
    loss: Array
    own_curvature: Array
    near_edge: Mask
    across_optimum: Array
    across_variance: Array
    lr: Laws
    wd: Laws
    product: Laws
    across: Laws
    angle: Array
    angle_error: Array
    product_only: Mask
    noise: Array
    freedom: Array


def fit_planes(
    planes: Planes,
    level: float,
    product: tuple[float, float] = (1.0, 1.0),
    line: LawFit | None = None,
) -> Joint:
    """Optima of two axes at every width and their laws across widths, for G sweeps at once.

    Args:
        planes: sweeps of equal shape; they do not influence each other.
        level: of the intervals, 0.95 for 95 %.
        product: direction in (x, y) in which the decay a step grows: (1, 1) for lr * wd when decay
            is lr_coupled, (0, 1) when it is independent.
        line: how laws are fitted across widths; with scatter learned when None.
    """
    surfaces, grids = settle(planes)
    used, width_status, side = across_inside(surfaces, grids)
    enough = used.sum(1) >= MIN_WIDTHS
    offset, errors, jacobian = vertices(surfaces)
    errors, across_inflation, freedom = moved_by_seeds(planes, surfaces, errors, jacobian)
    flat = is_ridge(surfaces, grids, used, offset, errors)
    ridge, ok = enough & flat, enough & ~flat
    turn = surfaces.axes[:, None]
    vertex = surfaces.centre + (offset[..., None, :] @ turn)[..., 0, :]
    covariance = np.swapaxes(turn, -1, -2) @ errors @ turn
    angle, angle_error, product_only = ridge_angle(surfaces, level, product)
    across, across_errors = across_positions(surfaces, used, angle_error, np.hypot(*product))
    across_errors = across_errors * across_inflation[:, None, None]
    line = line or partial(fit_laws, level=level)

    def law(direction: tuple[float, float]) -> Laws:
        variance = np.einsum("i,gkij,j->gk", direction, covariance, direction)
        errors = variance[..., None] * np.eye(used.shape[1])
        at = (planes.log2_width, vertex @ np.array(direction), errors, freedom)
        return laws_where(ok, used, *at, line)

    shown, swept = used & ~flat[:, None], used & ridge[:, None]
    from_ends = np.minimum(vertex - grids.low, grids.high - vertex)
    at = (planes.log2_width, across, across_errors, freedom)
    return Joint(
        status=np.where(ok, "ok", np.where(ridge, "ridge", "insufficient")),
        used=used,
        width_status=width_status,
        side=side,
        vertices=np.where(shown[..., None], vertex, np.nan),
        covariance=np.where(shown[..., None, None], covariance, np.nan),
        loss=np.where(shown, loss_at(surfaces, offset), np.nan),
        own_curvature=np.where(shown[..., None], own_curvatures(surfaces), np.nan),
        near_edge=shown[..., None] & (from_ends < NEAR_EDGE),
        across_optimum=np.where(swept, across, np.nan),
        across_variance=np.where(swept, np.diagonal(across_errors, axis1=1, axis2=2), np.nan),
        lr=law((1.0, 0.0)),
        wd=law((0.0, 1.0)),
        product=law(product),
        across=laws_where(ridge, used, *at, line),
        angle=np.where(enough, angle, np.nan),
        angle_error=np.where(enough, angle_error, np.nan),
        product_only=ridge & product_only,
        noise=np.where(enough, np.sqrt(surfaces.variance), np.nan),
        freedom=freedom,
    )


def across_inside(
    surfaces: Surfaces, grids: Grids
) -> tuple[Mask, npt.NDArray[np.str_], npt.NDArray[np.str_]]:
    """Widths [G, K] whose optimum across the ridge, at the middle along it, lies in the grid.

    None in a sweep whose curvature across the ridge is not told from none. With status and side.
    """
    steep = surfaces.curvature[:, 0] > RIDGE_ERRORS * surfaces.curvature_error[:, 0]
    own = surfaces.coefficients[..., 3]
    curved = surfaces.supported & (own > OWN_ERRORS * np.sqrt(surfaces.covariance[..., 3, 3]))
    curved &= (steep & (surfaces.freedom > 0))[:, None]
    step = -surfaces.coefficients[..., 1] / (2 * np.where(curved, own, 1.0))
    used = curved & inside(surfaces.centre + step[..., None] * surfaces.axes[:, None, 0], grids)
    status = np.select(
        [used, ~surfaces.supported, curved],
        ["ok", "too_few_points", "not_bracketed"],
        "unresolved",
    )
    side = np.where(status == "not_bracketed", np.where(step > 0, "high", "low"), "")
    return used, status, side


def inside(at: Array, grids: Grids) -> Mask:
    slack = DEGENERATE * grids.spacing
    return np.asarray(((at >= grids.low - slack) & (at <= grids.high + slack)).all(-1))


def moved_by_seeds(
    planes: Planes, surfaces: Surfaces, errors: Array, jacobian: Array
) -> tuple[Array, Array, Array]:
    """Covariance of the vertices (p, q), factor on the variance across the ridge, and degrees of
    freedom, where seeds that share their data order move whole surfaces."""
    if planes.away.shape[-1] < 2:
        return errors, np.ones(len(surfaces.freedom)), surfaces.freedom
    filled, there = whole_deviations(planes.away, surfaces.weight, surfaces.design[..., :3])
    moves = surfaces.gain @ filled  # of the coefficients, [G, K, 7, S]
    usable = surfaces.coefficients[..., 3] > 0
    _, gradient, of_p = across_ridge(surfaces, usable)
    by_p = np.einsum("gki,gkis->gks", gradient, moves[..., [1, 3], :])
    across, freedom = inflation(by_p, there & usable[..., None], of_p, surfaces.freedom)
    by_q = np.nan_to_num((jacobian @ moves[..., 1:6, :])[..., 1, :])
    along, of_along = inflation(by_q, there, errors[..., 1, 1], surfaces.freedom)
    scale = np.sqrt(np.stack([across, along], -1))[:, None]
    return (
        errors * scale[..., None] * scale[..., None, :],
        across,
        np.minimum(freedom, of_along),
    )


def vertices(surfaces: Surfaces) -> tuple[Array, Array, Array]:
    """Vertex (p, q) of each quadratic, [G, K, 2] from the centre, covariance and Jacobian in b1 to
    b5 (delta method).

    NaN where a width is not curved upwards in both directions.
    """
    slope = surfaces.coefficients[..., 1:3]
    strong, cross, weak = np.moveaxis(surfaces.coefficients[..., 3:6], -1, 0)
    bowl = (strong > 0) & (4 * strong * weak - cross**2 > DEGENERATE * strong**2)
    hessian = np.stack([2 * strong, cross, cross, 2 * weak], -1).reshape(*strong.shape, 2, 2)
    inverse = np.linalg.inv(np.where(bowl[..., None, None], hessian, np.eye(2)))
    vertex = -(inverse @ slope[..., None])[..., 0]
    p, q = np.moveaxis(vertex, -1, 0)
    one, none = np.ones_like(p), np.zeros_like(p)
    # the gradient at the vertex, differentiated by b1 to b5
    rows = np.stack([one, none, 2 * p, q, none, none, one, none, p, 2 * q], -1)
    jacobian = inverse @ rows.reshape(*p.shape, 2, 5)
    covariance = jacobian @ surfaces.covariance[..., 1:6, 1:6] @ np.swapaxes(jacobian, -1, -2)
    vertex = np.where(bowl[..., None], vertex, np.nan)
    return vertex, np.where(bowl[..., None, None], covariance, np.nan), jacobian


def is_ridge(
    surfaces: Surfaces, grids: Grids, used: Mask, vertex: Array, covariance: Array
) -> Mask:
    """Sweeps [G] whose optimum along the weak direction cannot be told, at any width used."""
    strong, _, weak = surfaces.curvature.T
    flat = weak <= RIDGE_ERRORS * surfaces.curvature_error[:, 2] + DEGENERATE * strong
    at = surfaces.centre + (vertex[..., None, :] @ surfaces.axes[:, None])[..., 0, :]
    resolved = inside(at, grids) & (covariance[..., 1, 1] <= RIDGE_SPREAD**2)  # False where NaN
    return np.asarray(flat | (used & ~resolved).any(1))


def loss_at(surfaces: Surfaces, offset: Array) -> Array:
    """Loss [G, K] of the quadratics at their vertices."""
    slope = surfaces.coefficients[..., 1:3]
    level: Array = surfaces.coefficients[..., 0] + (slope * offset).sum(-1) / 2
    return level


def own_curvatures(surfaces: Surfaces) -> Array:
    """Coefficients of x^2 and y^2, [G, K, 2]."""
    strong, cross, weak = np.moveaxis(surfaces.coefficients[..., 3:6], -1, 0)
    half = np.stack([strong, cross / 2, cross / 2, weak], -1).reshape(*strong.shape, 2, 2)
    turn = surfaces.axes[:, None]
    return np.diagonal(np.swapaxes(turn, -1, -2) @ half @ turn, axis1=-2, axis2=-1)


def ridge_angle(
    surfaces: Surfaces, level: float, product: tuple[float, float]
) -> tuple[Array, Array, Mask]:
    """Direction of p in degrees in (-45, 135], its standard error, and whether it may be that of
    the product."""
    strong, cross, weak = surfaces.curvature.T
    axis = np.arctan2(surfaces.axes[:, 0, 1], surfaces.axes[:, 0, 0])
    angle = np.degrees(positive_sum(axis + np.arctan2(cross, strong - weak) / 2))
    gap = np.maximum(strong - weak, DEGENERATE * np.abs(strong) + np.finfo(float).tiny)
    error = np.degrees(np.minimum(surfaces.curvature_error[:, 1] / (2 * gap), np.pi / 2))
    bound = stats.t.ppf(0.5 + level / 2, np.maximum(surfaces.freedom, 1)) * error + DEGENERATE
    of_product = np.degrees(np.arctan2(product[1], product[0]))
    return angle, error, np.abs(angle - of_product) <= bound


def across_ridge(surfaces: Surfaces, curved: Mask) -> tuple[Array, Array, Array]:
    """Optimum along p from the centre, [G, K], its gradient in (b1, b3), and its variance."""
    own = np.where(curved, surfaces.coefficients[..., 3], 1.0)
    step = -surfaces.coefficients[..., 1] / (2 * own)
    gradient = np.stack([-1 / (2 * own), -step / own], -1)
    errors = surfaces.covariance[..., [1, 3], :][..., [1, 3]]
    return step, gradient, np.einsum("gki,gkij,gkj->gk", gradient, errors, gradient)


def across_positions(
    surfaces: Surfaces, used: Mask, angle_error: Array, scale: float
) -> tuple[Array, Array]:
    """`scale` times the position across the ridge at the middle along it, [G, K], and covariance.

    Where the grids of the widths lie at different places along the ridge, an error of its angle
    moves all positions together: a covariance of rank one.
    """
    step, _, variance = across_ridge(surfaces, used)
    p, q = np.moveaxis(surfaces.centre @ np.swapaxes(surfaces.axes, 1, 2), -1, 0)
    middle = (q * used).sum(1) / np.maximum(used.sum(1), 1)
    swung = (q - middle[:, None]) * np.radians(angle_error)[:, None]
    covariance = variance[..., None] * np.eye(used.shape[1]) + swung[..., None] * swung[:, None]
    return scale * (p + step), scale**2 * covariance
