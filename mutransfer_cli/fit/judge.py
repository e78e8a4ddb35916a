"""Interval and status of every optimum.

Shapes: G sweeps, K widths, C cells, P = 2 of the pair (slope, curvature). Positions in octaves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mutransfer_cli.fit.arrays import Array, Mask, Words, t_quantile
from mutransfer_cli.fit.bowls import Bowls
from mutransfer_cli.fit.cells import Cells

MIN_CELLS = 4
NEAR_EDGE = 1.0  # octaves
FAR_CELL = 1.0  # octaves from the lowest cell, of one in a second basin


@dataclass(frozen=True)
class Judgements:
    """Status and interval of each optimum, [G, K]; low and high are NaN where there is no
    interval, side is empty unless the status is `not_bracketed`."""

    status: Words
    side: Words
    low: Array
    high: Array
    near_edge: Mask

    @property
    def ok(self) -> Mask:
        return np.asarray(self.status == "ok")


def judge(cells: Cells, bowls: Bowls, first_noise_G: Array) -> Judgements:
    """Decide the statuses, in the order listed below: the first that applies holds.

    Args:
        cells: the fitted cells, broken ones left out.
    """
    below_GK, above_GK = fieller(bowls)
    low_GK, high_GK = bowls.optimum + below_GK, bowls.optimum + above_GK
    enough_GK = (bowls.weight > 0).sum(-1) >= MIN_CELLS
    inside_GK = enough_GK & (low_GK >= cells.first) & (high_GK <= cells.upper)  # False for NaN
    # on a coarse grid the soft window, and with it the steps, may alternate between cells
    inside_GK &= (below_GK <= 0) & (above_GK >= 0)
    # a form that fits broken runs may have its optimum within a grid whose lowest cell is an end
    below_last_GK = (cells.best < cells.count - 1) | (cells.upper > cells.last)
    inside_GK &= (cells.best > 0) & below_last_GK
    at_low_GK, at_high_GK, both_ends_GK = _ends(cells, bowls.noise)
    status_GK = np.select(
        [
            cells.count < MIN_CELLS,
            second_minimum(cells, first_noise_G),
            inside_GK,
            _all_equal(cells),
            at_low_GK | at_high_GK,
            both_ends_GK,
            ~enough_GK,
            (cells.upper > cells.last) & (cells.best >= cells.count - 2),
        ],
        [
            "too_few_points",
            "multimodal",
            "ok",
            "flat",
            "not_bracketed",
            "flat",
            "too_few_points",
            "at_divergence",
        ],
        "unresolved",
    )
    towards_GK = np.where(at_high_GK, "high", "low")
    from_ends_GK = np.minimum(bowls.optimum - cells.first, cells.upper - bowls.optimum)
    return Judgements(
        status=status_GK,
        side=np.where(status_GK == "not_bracketed", towards_GK, ""),
        low=low_GK,
        high=high_GK,
        near_edge=(status_GK == "ok") & (from_ends_GK < NEAR_EDGE),
    )


def fieller(bowls: Bowls) -> tuple[Array, Array]:
    """Interval of each optimum, [G, K], as distances from it; NaN where it is not bounded.

    Fieller (1954): the displacements d at which slope + curvature * d may be 0, that is
    (slope + curvature d)^2 <= t^2 Var(slope + curvature d), a quadratic a d^2 + b d + c <= 0. The
    slope is in units of the derivative of d^2 / 2.
    """
    square_G1 = t_quantile(np.maximum(bowls.freedom, 0.5))[:, None] ** 2
    # v: covariance of (slope, curvature), so Var = v00 + 2 v01 d + v11 d^2
    v_GKPP = bowls.slope_curvature
    a_GK = bowls.curvature**2 - square_G1 * v_GKPP[..., 1, 1]
    b_GK = 2 * (bowls.slope * bowls.curvature - square_G1 * v_GKPP[..., 0, 1])
    c_GK = bowls.slope**2 - square_G1 * v_GKPP[..., 0, 0]
    # between the two roots if the parabola opens upwards: the curvature differs from 0
    discriminant_GK = b_GK**2 - 4 * a_GK * c_GK
    bounded_GK = (a_GK > 0) & (discriminant_GK >= 0) & (bowls.freedom[:, None] > 0.5)
    root_GK = np.sqrt(np.where(bounded_GK, discriminant_GK, np.nan))
    twice_GK = 2 * np.where(bounded_GK, a_GK, np.nan)
    return (-b_GK - root_GK) / twice_GK, (-b_GK + root_GK) / twice_GK


def _all_equal(cells: Cells) -> Mask:
    """Whether every cell has the same loss, [G, K]: the lowest would be the first by chance."""
    lowest_GK = np.where(cells.present, cells.mean, np.inf).min(-1)
    highest_GK = np.where(cells.present, cells.mean, -np.inf).max(-1)
    return np.asarray((highest_GK <= lowest_GK) & (cells.upper <= cells.last))


def _ends(cells: Cells, noise_GK: Array) -> tuple[Mask, Mask, Mask]:
    """Whether the lowest cell is at or next to the low end, or the high end, while that end is not
    clearly higher, and whether neither end is clearly higher; [G, K] each."""
    best_GK, last_GK = cells.best, cells.count - 1
    # 3 standard errors of a difference of two cells, sqrt(2) times the noise of one
    clearly_GK = cells.at(cells.mean, best_GK) + 3 * np.sqrt(2) * noise_GK
    last_loss_GK = cells.at(cells.mean, np.maximum(last_GK, 0).astype(np.intp))
    low_rises_GK = cells.mean[..., 0] > clearly_GK
    high_rises_GK = (last_loss_GK > clearly_GK) | (cells.upper > cells.last)
    at_low_GK = (best_GK <= 1) & ~low_rises_GK
    at_high_GK = (best_GK >= last_GK - 1) & ~high_rises_GK
    return at_low_GK & ~at_high_GK, at_high_GK & ~at_low_GK, ~low_rises_GK & ~high_rises_GK


def second_minimum(cells: Cells, noise_G: Array) -> Mask:
    """Whether there is a second basin, [G, K]: a far cell below a wall that parts it from the lowest.

    The wall stands clearly above both, and the far cell is less than half as high as the wall.
    """
    best_GK = cells.best
    lowest_GK, at_GK = cells.at(cells.mean, best_GK), cells.at(cells.x, best_GK)
    excess_GKC, from_best_GKC = cells.mean - lowest_GK[..., None], cells.x - at_GK[..., None]
    clearly_G11 = 4 * np.sqrt(2) * noise_G[:, None, None]
    found_GK = np.zeros(best_GK.shape, dtype=bool)
    # on each side, the highest wall between the lowest cell and a cell is a running maximum outwards
    for side, outwards in ((-1, slice(None, None, -1)), (1, slice(None))):
        here_GKC = cells.present & (side * from_best_GKC > 0)
        between_GKC = np.where(here_GKC, excess_GKC, -np.inf)[..., outwards]
        wall_GKC = np.maximum.accumulate(between_GKC, axis=-1)[..., outwards]
        rival_GKC = here_GKC & (np.abs(from_best_GKC) > FAR_CELL) & (excess_GKC < wall_GKC / 2)
        rival_GKC &= (wall_GKC > excess_GKC + clearly_G11) & (wall_GKC > clearly_G11)
        found_GK |= rival_GKC.any(-1)
    return found_GK
