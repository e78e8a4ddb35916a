"""Interval and status of every optimum. Shapes: G sweeps, K widths, C cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mutransfer_cli.fit.arrays import Array, Mask, Words, t_quantile
from mutransfer_cli.fit.bowls import Bowls
from mutransfer_cli.fit.cells import Cells

MIN_CELLS = 4
NEAR_EDGE = 1.0  # octaves
FAR_CELL = 1.5  # octaves from the optimum, of a second one


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
        found: Mask = self.status == "ok"
        return found


def judge(cells: Cells, bowls: Bowls) -> Judgements:
    """Decide the statuses, in the order listed below: the first that applies holds.

    Args:
        cells: the fitted cells, broken ones left out.
    """
    below, above = fieller(bowls)
    low, high = bowls.optimum + below, bowls.optimum + above
    enough = bowls.in_window >= MIN_CELLS
    inside = enough & (low >= cells.first) & (high <= cells.upper)  # False for NaN
    # on a coarse grid the soft window may go to and fro between cells, and the steps with it
    inside &= (below <= 0) & (above >= 0)
    # a form that fits broken runs may have its optimum within a grid whose lowest cell is an end
    inside &= (cells.best > 0) & ((cells.best < cells.count - 1) | (cells.upper > cells.last))
    at_low, at_high, both_ends = _ends(cells, bowls.noise)
    status = np.select(
        [
            cells.count < MIN_CELLS,
            second_minimum(cells, bowls),
            inside,
            _all_equal(cells),
            at_low | at_high,
            both_ends,
            ~enough,
        ],
        ["too_few_points", "multimodal", "ok", "flat", "not_bracketed", "flat", "too_few_points"],
        "unresolved",
    )
    side = np.where(status == "not_bracketed", np.where(at_high, "high", "low"), "")
    ends = np.minimum(bowls.optimum - cells.first, cells.upper - bowls.optimum)
    return Judgements(status, side, low, high, (status == "ok") & (ends < NEAR_EDGE))


def fieller(bowls: Bowls) -> tuple[Array, Array]:
    """Interval of each optimum, [G, K], as distances from it; NaN where it is not bounded.

    Fieller (1954): the displacements d at which slope + curvature * d may be 0, that is
    (slope + curvature d)^2 <= t^2 Var(slope + curvature d), a quadratic a d^2 + b d + c <= 0. The
    slope is in units of the derivative of d^2 / 2.
    """
    square = t_quantile(np.maximum(bowls.freedom, 0.5))[:, None] ** 2
    v = bowls.slope_curvature
    a = bowls.curvature**2 - square * v[..., 1, 1]
    b = 2 * (bowls.slope * bowls.curvature - square * v[..., 0, 1])
    c = bowls.slope**2 - square * v[..., 0, 0]
    discriminant = b**2 - 4 * a * c
    bounded = (a > 0) & (discriminant >= 0) & (bowls.freedom[:, None] > 0.5)
    root = np.sqrt(np.where(bounded, discriminant, np.nan))
    twice = 2 * np.where(bounded, a, np.nan)
    return (-b - root) / twice, (-b + root) / twice


def _all_equal(cells: Cells) -> Mask:
    """Whether every cell has the same loss, [G, K]: the lowest would be the first by chance."""
    lowest = np.where(cells.present, cells.mean, np.inf).min(-1)
    highest = np.where(cells.present, cells.mean, -np.inf).max(-1)
    equal: Mask = (highest <= lowest) & (cells.upper <= cells.last)
    return equal


def _ends(cells: Cells, noise: Array) -> tuple[Mask, Mask, Mask]:
    """Whether the lowest cell is at or next to the low end, or the high end, while that end is not
    clearly higher, and whether neither end is clearly higher; [G, K] each."""
    best, last = cells.best, cells.count - 1
    lowest = cells.at(cells.mean, best)
    clearly = lowest + 3 * np.sqrt(2) * noise
    last_loss = cells.at(cells.mean, np.maximum(last, 0).astype(np.intp))
    low_rises = cells.mean[..., 0] > clearly
    high_rises = (last_loss > clearly) | (cells.upper > cells.last)
    at_low, at_high = (best <= 1) & ~low_rises, (best >= last - 1) & ~high_rises
    return at_low & ~at_high, at_high & ~at_low, ~low_rises & ~high_rises


def second_minimum(cells: Cells, bowls: Bowls) -> Mask:
    """Whether a far cell is as low as the lowest, with a clearly higher one between; [G, K].

    On each side the highest wall between the optimum and a cell is a running maximum.
    """
    lowest = np.where(cells.present, cells.mean, np.inf).min(-1)
    noise = bowls.noise[..., None]
    distance = cells.x - bowls.optimum[..., None]
    rival = cells.present & (cells.mean <= lowest[..., None] + 2 * np.sqrt(2) * noise)
    rival &= np.abs(distance) > FAR_CELL
    wall = cells.mean - 4 * np.sqrt(2) * noise  # how high a pair may be below this cell
    found = np.zeros(rival.shape[:2], dtype=bool)
    for side in (-1, 1):
        here = cells.present & (side * distance > 0)
        between = np.where(here, wall, -np.inf)
        ordered = between if side > 0 else between[..., ::-1]
        highest = np.maximum.accumulate(ordered, axis=-1)
        highest = highest if side > 0 else highest[..., ::-1]
        found |= (rival & here & (highest > cells.mean)).any(-1)
    return found
