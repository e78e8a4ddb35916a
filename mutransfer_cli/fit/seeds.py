"""Seeds that share their data order move whole bowls: how much more than independent noise would.

A fit is linear in the losses near its solution: applied to one seed's deviations from the cell
means it gives that seed's own displacement of the optimum.
Shapes: G sweeps, K widths, C cells, S seeds, P columns of a design.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

MOST_MISSING = 0.5  # of the window, for a seed to tell how it moves the optimum
LEVEL = 0.95  # at which seeds are told from independent noise
TINY = 1e-9


def seed_lines(away: Array, weight: Array, columns: Array) -> Array:
    """Level and slope of each seed's deviations over the cells that it has, [G, K, C, S].

    Args:
        away: of each loss from its cell's mean, [G, K, C, S]; NaN where a seed has no trial.
        weight: of the cells, [G, K, C].
        columns: [G, K, C, P].
    """
    has = ~np.isnan(away)
    by_seed = weight[..., None] * has
    size = columns.shape[-1]
    normal = np.einsum("gkcs,gkci,gkcj->gksij", by_seed, columns, columns) + TINY * np.eye(size)
    right = np.einsum("gkcs,gkci,gkcs->gksi", by_seed, columns, np.where(has, away, 0.0))
    shift = np.linalg.solve(normal, right[..., None])[..., 0]
    lines: Array = np.einsum("gkci,gksi->gkcs", columns, shift)
    return lines


def whole_deviations(away: Array, weight: Array, columns: Array) -> tuple[Array, Mask]:
    """Deviations with the seed's own line where it has no trial, and which seeds have cells enough
    to tell, [G, K, S]; arguments as of `seed_lines`."""
    has = ~np.isnan(away)
    filled = np.where(has, away, seed_lines(away, weight, columns))
    return filled, (weight[..., None] * has).sum(2) > MOST_MISSING * weight.sum(2)[..., None]


def inflation(
    displaced: Array, there: Mask, expected: Array, freedom: Array
) -> tuple[Array, Array]:
    """Factor on the variance of the optima, [G], at least 1, and its degrees of freedom.

    1 unless the seeds' displacements exceed by F at LEVEL what independent noise explains.

    Args:
        displaced: by each seed, [G, K, S]; there: which of them count.
        expected: variance of the optima by independent noise, [G, K].
        freedom: degrees of freedom behind it, [G].
    """
    seeds = there.sum(-1)
    mean = (displaced * there).sum(-1) / np.maximum(seeds, 1)
    squares = (there * (displaced - mean[..., None]) ** 2).sum(-1)
    observed = squares / np.maximum(seeds - 1, 1) / np.maximum(seeds, 1)
    counted = (seeds >= 2) & np.isfinite(expected)
    ratio = np.where(counted, observed / np.where(counted, np.maximum(expected, TINY**2), 1.0), 0.0)
    by_width = np.where(counted, seeds - 1, 0)
    of_seeds = by_width.sum(1).astype(np.float64)
    mean_ratio = (ratio * by_width).sum(1) / np.maximum(of_seeds, 1)
    limit = stats.f.ppf(LEVEL, np.maximum(of_seeds, 1), np.maximum(freedom, 0.5))
    alarm = (of_seeds > 0) & (mean_ratio > limit)
    return np.where(alarm, mean_ratio, 1.0), np.where(alarm, of_seeds, freedom)
