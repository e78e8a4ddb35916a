"""The optimum of two axes across widths, or the ridge along which there is none.

Learning rate and weight decay often act through their product alone: the bowl is then a ridge, and
the position along it is noise. Only the position across a ridge is given an exponent.
Shapes and axes as in planes.py: G sweeps, K widths, C cells, S seeds, P = 7 coefficients b0 to b6,
XY the pair (x, y) and PQ the pair (p, q), p across and q along the ridge.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mutransfer_cli.fit.arrays import Array, Mask, Words, t_quantile
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
from mutransfer_cli.fit.seeds import inflation, whole_deviations

OWN_ERRORS = 2.0  # curvature of one width across the ridge exceeds so many errors
RIDGE_SPREAD = 1.0  # octaves: largest error of an optimum along the weak direction


@dataclass(frozen=True)
class Joint:
    """The fit of G sweeps. Floats are NaN where the status gives them no meaning."""

    status: Words
    """`ok`, `ridge` or `insufficient` (fewer than three widths with an optimum across the ridge
    inside the grid, or no curvature at all), [G]."""
    used: Mask
    """Widths that take part across widths, [G, K]."""
    width_status: Words
    """Why a width does not, as in judge.py, [G, K]."""
    side: Words
    """Which end a width's optimum lies beyond, [G, K]; `high` is towards more of both."""
    vertices: Array
    """Optimum (x, y) of each used width, [G, K, 2]; NaN in sweeps that are flat along q."""
    covariance: Array
    """Covariance of the vertices, [G, K, 2, 2], octaves^2."""
    loss: Array
    """Loss at the vertices, [G, K], nats."""
    own_curvature: Array
    """Curvature along x and along y at each vertex, [G, K, 2], nats per octave^2."""
    near_edge: Mask
    """Whether the vertex is less than an octave from an end of x, or of y, [G, K, 2]."""
    across_optimum: Array
    """Position across the ridge, scaled as `across`, [G, K]; of `ridge` sweeps."""
    across_variance: Array
    """Variance of that position, [G, K]."""
    lr: Laws
    """Law of x in log2 width; of `ok` sweeps."""
    wd: Laws
    """Law of y."""
    product: Laws
    """Law of the position along the product direction."""
    across: Laws
    """Law of the position across the ridge, times the length of the product direction, so that
    along it this is the law of the product; of `ridge` sweeps."""
    angle: Array
    """Direction across the ridge, [G], degrees from the lr axis in (-45, 135]. At 45 only lr * wd
    matters, at 0 only lr, at 90 only wd."""
    angle_error: Array
    """Standard error of the angle, [G]."""
    product_only: Mask
    """A ridge whose angle is compatible with the product direction, [G]."""
    noise: Array
    """Sd of a cell's mean loss at the mean number of seeds, [G], nats."""
    freedom: Array
    """Degrees of freedom behind the noise, [G]."""


def fit_planes(
    planes: Planes, product: tuple[float, float] = (1.0, 1.0), line: LawFit = fit_laws
) -> Joint:
    """Optima of two axes at every width and their laws across widths, for G sweeps at once.

    Args:
        planes: sweeps of equal shape; they do not influence each other.
        product: direction in (x, y) in which the decay per step grows: (1, 1) for lr * wd when
            decay is lr_coupled, (0, 1) when it is independent.
        line: how laws are fitted across widths.
    """
    surfaces, grids = settle(planes)
    used_GK, width_status, side = across_inside(surfaces, grids)
    enough_G = used_GK.sum(1) >= MIN_WIDTHS
    offset_GKPQ, errors, jacobian = vertices(surfaces)
    errors, across_inflation_G, freedom_G = moved_by_seeds(planes, surfaces, errors, jacobian)
    flat_G = is_ridge(surfaces, grids, used_GK, offset_GKPQ, errors)
    ridge_G, ok_G = enough_G & flat_G, enough_G & ~flat_G
    # vertices and their covariance turned back from (p, q) to (x, y)
    turn = surfaces.axes[:, None]
    vertex_GKXY = surfaces.centre + (offset_GKPQ[..., None, :] @ turn)[..., 0, :]
    covariance = np.swapaxes(turn, -1, -2) @ errors @ turn
    angle_G, angle_error_G, product_only_G = ridge_angle(surfaces, product)
    across_GK, across_errors = across_positions(
        surfaces, used_GK, angle_error_G, np.hypot(*product)
    )
    across_errors = across_errors * across_inflation_G[:, None, None]

    def law(direction: tuple[float, float]) -> Laws:
        # position v' d and variance d' C d of each vertex along the direction d
        variance_GK = np.einsum("i,gkij,j->gk", direction, covariance, direction)
        errors_GKK = variance_GK[..., None] * np.eye(used_GK.shape[1])
        at = (planes.log2_width, vertex_GKXY @ np.array(direction), errors_GKK, freedom_G)
        return laws_where(ok_G, used_GK, *at, line)

    shown_GK, swept_GK = used_GK & ~flat_G[:, None], used_GK & ridge_G[:, None]
    from_ends = np.minimum(vertex_GKXY - grids.low, grids.high - vertex_GKXY)
    across_at = (planes.log2_width, across_GK, across_errors, freedom_G)
    across_variance_GK = np.diagonal(across_errors, axis1=1, axis2=2)
    return Joint(
        status=np.where(ok_G, "ok", np.where(ridge_G, "ridge", "insufficient")),
        used=used_GK,
        width_status=width_status,
        side=side,
        vertices=np.where(shown_GK[..., None], vertex_GKXY, np.nan),
        covariance=np.where(shown_GK[..., None, None], covariance, np.nan),
        loss=np.where(shown_GK, loss_at(surfaces, offset_GKPQ), np.nan),
        own_curvature=np.where(shown_GK[..., None], own_curvatures(surfaces), np.nan),
        near_edge=shown_GK[..., None] & (from_ends < NEAR_EDGE),
        across_optimum=np.where(swept_GK, across_GK, np.nan),
        across_variance=np.where(swept_GK, across_variance_GK, np.nan),
        lr=law((1.0, 0.0)),
        wd=law((0.0, 1.0)),
        product=law(product),
        across=laws_where(ridge_G, used_GK, *across_at, line),
        angle=np.where(enough_G, angle_G, np.nan),
        angle_error=np.where(enough_G, angle_error_G, np.nan),
        product_only=ridge_G & product_only_G,
        noise=np.where(enough_G, np.sqrt(surfaces.variance), np.nan),
        freedom=freedom_G,
    )


def across_inside(surfaces: Surfaces, grids: Grids) -> tuple[Mask, Words, Words]:
    """Widths [G, K] whose optimum across the ridge, at the middle along it, lies in the grid, with
    status and side.

    There is none in a sweep whose curvature across the ridge cannot be told from zero.
    """
    steep_G = surfaces.curvature[:, 0] > RIDGE_ERRORS * surfaces.curvature_error[:, 0]
    own_GK = surfaces.coefficients[..., 3]
    curved_GK = own_GK > OWN_ERRORS * np.sqrt(surfaces.covariance[..., 3, 3])
    curved_GK &= surfaces.supported & (steep_G & (surfaces.freedom > 0))[:, None]
    # the vertex along p, where b1 + 2 b3 p = 0
    step_GK = -surfaces.coefficients[..., 1] / (2 * np.where(curved_GK, own_GK, 1.0))
    at_GKXY = surfaces.centre + step_GK[..., None] * surfaces.axes[:, None, 0]
    used_GK = curved_GK & inside(at_GKXY, grids)
    status = np.select(
        [used_GK, ~surfaces.supported, curved_GK],
        ["ok", "too_few_points", "not_bracketed"],
        "unresolved",
    )
    side = np.where(status == "not_bracketed", np.where(step_GK > 0, "high", "low"), "")
    return used_GK, status, side


def inside(at_GKXY: Array, grids: Grids) -> Mask:
    """Whether a place lies in the grid of its width, [G, K]."""
    slack = DEGENERATE * grids.spacing
    within = (at_GKXY >= grids.low - slack) & (at_GKXY <= grids.high + slack)
    return np.asarray(within.all(-1))


def moved_by_seeds(
    planes: Planes, surfaces: Surfaces, errors: Array, jacobian: Array
) -> tuple[Array, Array, Array]:
    """Covariance of the vertices in (p, q), [G, K, 2, 2], factor on the variance across the ridge,
    [G], and degrees of freedom, [G], where seeds that share their data order move whole surfaces.

    Args:
        errors: covariance of the vertices by independent noise.
        jacobian: derivative of the vertices in b1 to b5, [G, K, 2, 5].
    """
    if planes.away.shape[-1] < 2:
        return errors, np.ones(len(surfaces.freedom)), surfaces.freedom
    level_and_slopes = surfaces.design[..., :3]
    filled_GKCS, there_GKS = whole_deviations(planes.away, surfaces.weight, level_and_slopes)
    # each seed's deviations move the coefficients, and these the optimum along p and along q
    moves_GKPS = surfaces.gain @ filled_GKCS
    usable_GK = surfaces.coefficients[..., 3] > 0
    _, gradient, variance_GK = across_ridge(surfaces, usable_GK)
    by_p_GKS = np.einsum("gki,gkis->gks", gradient, moves_GKPS[..., [1, 3], :])
    there_p_GKS = there_GKS & usable_GK[..., None]
    across_G, freedom_G = inflation(by_p_GKS, there_p_GKS, variance_GK, surfaces.freedom)
    by_q_GKS = np.nan_to_num((jacobian @ moves_GKPS[..., 1:6, :])[..., 1, :])
    along_G, of_along_G = inflation(by_q_GKS, there_GKS, errors[..., 1, 1], surfaces.freedom)
    # D C D, with D the roots of both factors
    scale = np.sqrt(np.stack([across_G, along_G], -1))[:, None]
    inflated = errors * scale[..., None] * scale[..., None, :]
    return inflated, across_G, np.minimum(freedom_G, of_along_G)


def vertices(surfaces: Surfaces) -> tuple[Array, Array, Array]:
    """Vertex (p, q) of each quadratic from the centre, [G, K, 2], covariance [G, K, 2, 2] and
    Jacobian in b1 to b5, [G, K, 2, 5] (delta method).

    NaN where a width is not curved upwards in both directions.
    """
    slope_GKPQ = surfaces.coefficients[..., 1:3]
    strong, cross, weak = np.moveaxis(surfaces.coefficients[..., 3:6], -1, 0)
    bowl = (strong > 0) & (4 * strong * weak - cross**2 > DEGENERATE * strong**2)
    # Newton: v = -H^-1 (b1, b2), with the Hessian H = ((2 b3, b4), (b4, 2 b5))
    hessian = np.stack([2 * strong, cross, cross, 2 * weak], -1).reshape(*strong.shape, 2, 2)
    inverse = np.linalg.inv(np.where(bowl[..., None, None], hessian, np.eye(2)))
    vertex_GKPQ = -(inverse @ slope_GKPQ[..., None])[..., 0]
    # dv/db = -H^-1 times the gradient at the vertex differentiated by b1 to b5; the sign does not
    # matter to covariances
    p, q = np.moveaxis(vertex_GKPQ, -1, 0)
    one, none = np.ones_like(p), np.zeros_like(p)
    rows = np.stack([one, none, 2 * p, q, none, none, one, none, p, 2 * q], -1)
    jacobian = inverse @ rows.reshape(*p.shape, 2, 5)
    covariance = jacobian @ surfaces.covariance[..., 1:6, 1:6] @ np.swapaxes(jacobian, -1, -2)
    vertex_GKPQ = np.where(bowl[..., None], vertex_GKPQ, np.nan)
    return vertex_GKPQ, np.where(bowl[..., None, None], covariance, np.nan), jacobian


def is_ridge(
    surfaces: Surfaces, grids: Grids, used_GK: Mask, vertex_GKPQ: Array, covariance: Array
) -> Mask:
    """Sweeps [G] whose optimum along the weak direction cannot be told at some used width, or whose
    pooled weak curvature cannot be told from zero."""
    strong_G, _, weak_G = surfaces.curvature.T
    flat_G = weak_G <= RIDGE_ERRORS * surfaces.curvature_error[:, 2] + DEGENERATE * strong_G
    # (p, q) turned back to (x, y): rows of `axes` are the directions of p and q
    at_GKXY = surfaces.centre + (vertex_GKPQ[..., None, :] @ surfaces.axes[:, None])[..., 0, :]
    near_GK = covariance[..., 1, 1] <= RIDGE_SPREAD**2  # False where NaN
    resolved_GK = inside(at_GKXY, grids) & near_GK
    return np.asarray(flat_G | (used_GK & ~resolved_GK).any(1))


def loss_at(surfaces: Surfaces, offset_GKPQ: Array) -> Array:
    """Loss [G, K] of the quadratics at their vertices v: b0 + (b1, b2) v / 2."""
    slope_GKPQ = surfaces.coefficients[..., 1:3]
    return np.asarray(surfaces.coefficients[..., 0] + (slope_GKPQ * offset_GKPQ).sum(-1) / 2)


def own_curvatures(surfaces: Surfaces) -> Array:
    """Coefficients of x^2 and y^2, [G, K, 2]: the diagonal of the form in (p, q) turned back."""
    strong, cross, weak = np.moveaxis(surfaces.coefficients[..., 3:6], -1, 0)
    # A = ((b3, b4 / 2), (b4 / 2, b5)) in (p, q) is R' A R in (x, y)
    half = np.stack([strong, cross / 2, cross / 2, weak], -1).reshape(*strong.shape, 2, 2)
    turn = surfaces.axes[:, None]
    return np.diagonal(np.swapaxes(turn, -1, -2) @ half @ turn, axis1=-2, axis2=-1)


def ridge_angle(surfaces: Surfaces, product: tuple[float, float]) -> tuple[Array, Array, Mask]:
    """Direction of p in degrees in (-45, 135], its standard error, and whether it may be that of
    the product; [G] each.

    The eigenvector of the pooled form lies at atan2(b4, b3 - b5) / 2 from p; near 0 its error is
    that of b4 over 2 (b3 - b5).
    """
    strong_G, cross_G, weak_G = surfaces.curvature.T
    axis_G = np.arctan2(surfaces.axes[:, 0, 1], surfaces.axes[:, 0, 0])
    angle_G = np.degrees(positive_sum(axis_G + np.arctan2(cross_G, strong_G - weak_G) / 2))
    least_G = DEGENERATE * np.abs(strong_G) + np.finfo(float).tiny
    gap_G = np.maximum(strong_G - weak_G, least_G)
    error_G = np.degrees(np.minimum(surfaces.curvature_error[:, 1] / (2 * gap_G), np.pi / 2))
    bound_G = t_quantile(np.maximum(surfaces.freedom, 1)) * error_G + DEGENERATE
    of_product = np.degrees(np.arctan2(product[1], product[0]))
    return angle_G, error_G, np.abs(angle_G - of_product) <= bound_G


def across_ridge(surfaces: Surfaces, curved_GK: Mask) -> tuple[Array, Array, Array]:
    """Optimum along p from the centre, -b1 / 2 b3, [G, K], its gradient in (b1, b3), [G, K, 2], and
    its variance, [G, K] (delta method)."""
    # v = -b1 / 2 b3, so dv/db1 = -1 / 2 b3 and dv/db3 = -v / b3
    own_GK = np.where(curved_GK, surfaces.coefficients[..., 3], 1.0)
    step_GK = -surfaces.coefficients[..., 1] / (2 * own_GK)
    gradient = np.stack([-1 / (2 * own_GK), -step_GK / own_GK], -1)
    errors = surfaces.covariance[..., [1, 3], :][..., [1, 3]]
    return step_GK, gradient, np.einsum("gki,gkij,gkj->gk", gradient, errors, gradient)


def across_positions(
    surfaces: Surfaces, used_GK: Mask, angle_error_G: Array, scale: float
) -> tuple[Array, Array]:
    """`scale` times the position across the ridge at the middle along it, [G, K], and its
    covariance, [G, K, K].

    Where the grids of the widths lie at different places along the ridge, an error of its angle
    moves all positions together: a covariance of rank one.
    """
    step_GK, _, variance_GK = across_ridge(surfaces, used_GK)
    p_GK, q_GK = np.moveaxis(surfaces.centre @ np.swapaxes(surfaces.axes, 1, 2), -1, 0)
    middle_G = (q_GK * used_GK).sum(1) / np.maximum(used_GK.sum(1), 1)
    # an error of the angle moves p by the distance along the ridge times that error
    swung_GK = (q_GK - middle_G[:, None]) * np.radians(angle_error_G)[:, None]
    together_GKK = swung_GK[..., None] * swung_GK[:, None]
    covariance_GKK = variance_GK[..., None] * np.eye(used_GK.shape[1]) + together_GKK
    return scale * (p_GK + step_GK), scale**2 * covariance_GKK
