"""Interval and status of every optimum.

Shapes: G sweeps, K widths, C cells, P = 2 of the pair (slope, curvature). Positions in octaves.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mutransfer_cli.fit.arrays import Array, Mask, Words, t_quantile
from mutransfer_cli.fit.bowls import Bowls
from mutransfer_cli.fit.cells import Cells
from mutransfer_cli.fit.phi import reach

MIN_CELLS = 4
STEPS_OUT = np.arange(1, 49) / 48  # of the window's reach
BISECTIONS = 20
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
    below_GK, above_GK = fieller(cells, bowls)
    low_GK, high_GK = bowls.optimum + below_GK, bowls.optimum + above_GK
    enough_GK = (bowls.weight > 0).sum(-1) >= MIN_CELLS
    inside_GK = enough_GK & (low_GK >= cells.first) & (high_GK <= cells.upper)  # False for NaN
    # on a coarse grid the soft window, and with it the steps, may alternate between cells
    inside_GK &= np.abs(bowls.slope / bowls.curvature) <= np.minimum(-below_GK, above_GK)
    # a form that fits broken runs may have its optimum within a grid whose lowest cell is an end
    below_last_GK = (cells.best < cells.count - 1) | (cells.upper > cells.last)
    inside_GK &= (cells.best > 0) & below_last_GK
    at_low_GK, at_high_GK, both_ends_GK = _ends(cells, bowls.noise)
    status_GK = np.select(
        [
            # below a cliff few cells may be left, but they show where the loss falls
            (cells.count == MIN_CELLS - 1) & (cells.best == 0) & at_low_GK,
            cells.count < MIN_CELLS,
            second_minimum(cells, first_noise_G) & (cells.best > 0) & below_last_GK,
            inside_GK,
            _all_equal(cells),
            at_low_GK | at_high_GK,
            both_ends_GK,
            ~enough_GK,
            (cells.upper > cells.last) & (cells.best >= cells.count - 2),
        ],
        [
            "not_bracketed",
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


def fieller(cells: Cells, bowls: Bowls) -> tuple[Array, Array]:
    """Interval of each optimum, [G, K], as distances from it; NaN where it is not bounded.

    Fieller (1954): the displacements d about the optimum at which the derivative of the bowl,
    slope (1 + 6 q d^2 / a) + a d + 2 q d^3 in units of the derivative of d^2 / 2, may be 0: its
    square is at most t^2 times its variance.
    """
    covariance_GKPP = bowls.coefficient_covariance[..., [1, 2, 4], :][..., [1, 2, 4]]
    square_GK1 = t_quantile(np.maximum(bowls.freedom, 0.5))[:, None, None] ** 2
    a_GK1, q_GK1, slope_GK1 = (x[..., None] for x in (bowls.curvature, bowls.quartic, bowls.slope))

    def beyond(d_GKD: Array) -> Mask:
        """Whether the derivative differs from 0 at these displacements, [G, K, D]."""
        by_slope_GKD = 1 + 6 * q_GK1 / a_GK1 * d_GKD**2
        basis_GKDP = np.stack([by_slope_GKD, d_GKD, 2 * d_GKD**3], axis=-1)
        derivative_GKD = slope_GK1 * by_slope_GKD + a_GK1 * d_GKD + 2 * q_GK1 * d_GKD**3
        variance_GKD = np.einsum("gkdi,gkij,gkdj->gkd", basis_GKDP, covariance_GKPP, basis_GKDP)
        return np.asarray(derivative_GKD**2 > square_GK1 * variance_GKD)

    ends = []
    for side in (-1, 1):
        # the first step outwards that differs, then bisection between it and the one before
        steps_GKD = side * STEPS_OUT * reach(cells)[..., None]
        out_GKD = beyond(steps_GKD)
        first_GK = out_GKD.argmax(-1)
        far_GK = np.take_along_axis(steps_GKD, first_GK[..., None], axis=-1)[..., 0]
        near_GK = far_GK - side * STEPS_OUT[0] * reach(cells)
        for _ in range(BISECTIONS):
            middle_GK = (near_GK + far_GK) / 2
            out_GK = beyond(middle_GK[..., None])[..., 0]
            near_GK, far_GK = (
                np.where(out_GK, near_GK, middle_GK),
                np.where(out_GK, middle_GK, far_GK),
            )
        known_GK = out_GKD.any(-1) & (bowls.freedom[:, None] > 0.5)
        ends.append(np.where(known_GK, far_GK, np.nan))
    return ends[0], ends[1]


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
    """Whether there is a second basin, [G, K]: a far cell behind a wall.

    The wall between it and the lowest cell stands clearly above both, and it is less than half as
    high as the wall.
    """
    best_GK = cells.best
    lowest_GK, at_GK = cells.at(cells.mean, best_GK), cells.at(cells.x, best_GK)
    excess_GKC, from_best_GKC = cells.mean - lowest_GK[..., None], cells.x - at_GK[..., None]
    clearly_G11 = 4 * np.sqrt(2) * noise_G[:, None, None]
    found_GK = np.zeros(best_GK.shape, dtype=bool)
    # on each side, the wall between the lowest cell and a cell is a running maximum outwards
    for side, outwards in ((-1, slice(None, None, -1)), (1, slice(None))):
        here_GKC = cells.present & (side * from_best_GKC > 0)
        between_GKC = np.where(here_GKC, excess_GKC, -np.inf)[..., outwards]
        wall_GKC = np.maximum.accumulate(between_GKC, axis=-1)[..., outwards]
        rival_GKC = here_GKC & (np.abs(from_best_GKC) > FAR_CELL) & (excess_GKC < wall_GKC / 2)
        rival_GKC &= (wall_GKC > excess_GKC + clearly_G11) & (wall_GKC > clearly_G11)
        found_GK |= rival_GKC.any(-1)
    return found_GK
