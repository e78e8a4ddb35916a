"""One width: the optimum of loss against log2 of a hyperparameter.

Losses near the optimum are a parabola in log2; far from it they are not (linear below, steep
above), so the parabola is fitted in a soft window that follows its own optimum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]
BowlStatus = Literal["ok", "not_bracketed", "too_few_points", "unresolved"]
Side = Literal["low", "high"]

MIN_CELLS = 5
RECENTRINGS = 14


@dataclass(frozen=True)
class Cells:
    """Mean losses at one width, one cell a hyperparameter value, ascending.

    Attributes:
        x: log2 of the hyperparameter, cells with finite losses only.
        loss: mean over seeds, nats.
        n: seeds in each cell.
        diverged: x of the cells with a diverged trial: censored, above or below the bowl.
    """

    x: Array
    loss: Array
    n: Array
    diverged: Array

    @property
    def best(self) -> int:
        return int(self.loss.argmin())

    @property
    def spacing(self) -> float:
        """Median distance of neighbouring cells, octaves."""
        return float(np.median(np.diff(self.x)))

    @property
    def upper_bound(self) -> float:
        """x above which the optimum cannot lie: the highest cell, or the diverged one after it.

        A diverged cell more than two cells further up leaves a gap and bounds nothing.
        """
        beyond = self.diverged - self.x[-1]
        above = self.diverged[(beyond > 0) & (beyond <= 2 * self.spacing)]
        return float(above.min()) if above.size else float(self.x[-1])


@dataclass(frozen=True)
class Parabola:
    """loss = c0 + c1 (x - centre) + c2 (x - centre)^2 in a soft window around `centre`.

    Attributes:
        coefficients: c0, c1, c2.
        precision: inverse of the unscaled covariance, X' W X.
        squares: weighted sum of squared residuals.
        freedom: sum of weights minus 3.
    """

    centre: float
    coefficients: Array
    precision: Array
    squares: float
    freedom: float

    @property
    def vertex(self) -> float:
        _, slope, curvature = self.coefficients
        return float(self.centre - slope / (2 * curvature))


@dataclass(frozen=True)
class Bowl:
    """The optimum at one width; log2 units.

    Attributes:
        status: `ok`, or why the optimum is not used.
        side: where the optimum lies when it is not bracketed.
        optimum, low, high: vertex and its 95 % Fieller interval; None unless ok.
        standard_error: of the optimum (delta method), octaves.
        curvature: nats per octave^2.
        n: cells with finite losses.
    """

    status: BowlStatus
    side: Side | None = None
    optimum: float | None = None
    low: float | None = None
    high: float | None = None
    standard_error: float | None = None
    curvature: float | None = None
    n: int = 0


def fit_bowls(cells: dict[int, Cells], level: float) -> tuple[dict[int, Bowl], float]:
    """The bowl of every width, with one noise pooled over widths.

    Returns:
        bowls by width, and the degrees of freedom of the pooled noise.
    """
    parabolas = {
        width: fit_parabola(at_width)
        for width, at_width in cells.items()
        if at_width.x.size >= MIN_CELLS and edge(at_width) is None
    }
    usable = [p for p in parabolas.values() if p is not None and p.freedom > 0]
    freedom = sum(p.freedom for p in usable)
    variance = sum(p.squares for p in usable) / freedom if freedom else np.inf
    bowls = {
        width: _judge(at_width, parabolas.get(width), variance, freedom, level)
        for width, at_width in cells.items()
    }
    return bowls, freedom


def edge(cells: Cells) -> Side | None:
    """The end of the grid at which the lowest cell lies, unless a diverged cell lies beyond."""
    if cells.best == 0:
        return "low"
    if cells.best == cells.x.size - 1 and cells.upper_bound == cells.x[-1]:
        return "high"
    return None


def fit_parabola(cells: Cells) -> Parabola | None:
    """The parabola whose window is centred on its own vertex; None when the window has no bowl.

    The window's half-width is 1.5 octaves, or two cells on a grid coarser than 0.75 octave, or
    what holds MIN_CELLS cells. Weights fall from 1 to 0 over one cell at its edge, so that
    recentring cannot oscillate.
    """
    spacing = cells.spacing
    at_least = 1.5 if spacing <= 0.75 else 2 * spacing
    centre = float(cells.x[cells.best])
    parabola = None
    for _ in range(RECENTRINGS):
        distance = cells.x - centre
        half_width = max(at_least, float(np.sort(np.abs(distance))[MIN_CELLS - 1]))
        window = np.clip((half_width + spacing / 2 - np.abs(distance)) / spacing, 0, 1)
        parabola = _weighted_parabola(distance, cells, window * cells.n / cells.n.mean(), centre)
        if parabola.coefficients[2] <= 0:
            return None
        centre += float(np.clip(parabola.vertex - centre, -spacing, spacing))
        centre = float(np.clip(centre, cells.x[0], cells.upper_bound))
    return parabola


def _weighted_parabola(distance: Array, cells: Cells, weight: Array, centre: float) -> Parabola:
    design = np.stack([np.ones_like(distance), distance, distance**2], axis=1)
    precision = design.T @ (weight[:, None] * design)
    coefficients = np.linalg.solve(precision, design.T @ (weight * cells.loss)).astype(np.float64)
    residual = cells.loss - design @ coefficients
    return Parabola(
        centre=centre,
        coefficients=coefficients,
        precision=precision,
        squares=float(weight @ residual**2),
        freedom=float(weight.sum() - 3),
    )


def _judge(
    cells: Cells, parabola: Parabola | None, variance: float, freedom: float, level: float
) -> Bowl:
    if cells.x.size < MIN_CELLS:
        return Bowl("too_few_points", n=int(cells.x.size))
    side = edge(cells)
    if side is not None:
        return Bowl("not_bracketed", side=side, n=int(cells.x.size))
    if parabola is None or not np.isfinite(variance):
        return Bowl("unresolved", n=int(cells.x.size))
    covariance = (np.linalg.inv(parabola.precision)[1:, 1:] * variance).astype(np.float64)
    _, slope, curvature = parabola.coefficients
    quantile = float(stats.t.ppf(0.5 + level / 2, freedom))
    interval = fieller(float(slope), float(curvature), covariance, quantile)
    if interval is None:
        return Bowl("unresolved", curvature=float(curvature), n=int(cells.x.size))
    low, high = (parabola.centre + end for end in interval)
    if low < cells.x[0] or high > cells.upper_bound:
        return Bowl("unresolved", curvature=float(curvature), n=int(cells.x.size))
    gradient = np.array([-1 / (2 * curvature), slope / (2 * curvature**2)])
    return Bowl(
        status="ok",
        optimum=parabola.vertex,
        low=low,
        high=high,
        standard_error=float(np.sqrt(gradient @ covariance @ gradient)),
        curvature=float(curvature),
        n=int(cells.x.size),
    )


def fieller(
    slope: float, curvature: float, covariance: Array, quantile: float
) -> tuple[float, float] | None:
    """Fieller interval of the vertex -slope / (2 curvature); None when it is not bounded.

    The vertices v for which slope + 2 curvature v is compatible with 0:
    (slope + 2 curvature v)^2 <= quantile^2 * var(slope + 2 curvature v).
    """
    square = quantile**2
    a = 4 * (curvature**2 - square * covariance[1, 1])
    b = 4 * (slope * curvature - square * covariance[0, 1])
    c = slope**2 - square * covariance[0, 0]
    discriminant = b**2 - 4 * a * c
    if a <= 0 or discriminant < 0:
        return None
    root = float(np.sqrt(discriminant))
    return float((-b - root) / (2 * a)), float((-b + root) / (2 * a))
