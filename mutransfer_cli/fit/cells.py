"""Cells from tables of trials: losses by width and value of the hyperparameter.

This module also estimates their first noise and finds the cells that are broken runs.
Shapes: G sweeps at once, K widths, C cells, S seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from mutransfer_cli.fit.arrays import Array, Mask, nanmedian, padded

Index = npt.NDArray[np.intp]

FAR = 1e3  # octaves; x of absent cells
TRIM_REACH = 2.5  # octaves
LOW_CELL = 3  # index of a low cell: the fourth lowest
LEAST_NOISE = 1e-7  # share of the median excess loss; weights are finite only with some noise
SAME = 6  # decimals; log2 values that agree to so many are one
LEAST_CELLS = 4  # smallest C, so that third differences exist
BROKEN = 1e100  # a loss that counts as not finite
GAP = 2  # cells; a diverged cell further above the highest finite one is no bound


@dataclass(frozen=True)
class Cells:
    """Cells with finite losses only, ascending in x, absent ones last."""

    x: Array
    """log2 of the hyperparameter, [G, K, C]; FAR for absent cells."""
    losses: Array
    """Loss of each seed, [G, K, C, S], nats; NaN where a seed has no trial."""
    mean: Array
    """Mean over seeds, [G, K, C]; 0 for absent cells."""
    n: Array
    """Seeds in each cell, [G, K, C]; 0 for absent cells."""
    upper: Array
    """x above which the optimum cannot lie, [G, K]: the highest cell, or the diverged one that
    follows it."""
    log2_width: Array
    """[G, K]."""

    @property
    def present(self) -> Mask:
        return self.n > 0

    @property
    def count(self) -> Array:
        """Number of cells at each width, [G, K]."""
        return np.asarray(self.present.sum(-1).astype(np.float64))

    @property
    def mean_n(self) -> Array:
        """Mean number of seeds of a cell, [G]; 1 where there is no cell."""
        cells = self.count.sum(1)
        return np.asarray(np.where(cells > 0, self.n.sum((1, 2)) / np.maximum(cells, 1), 1.0))

    @property
    def first(self) -> Array:
        """Lowest x, [G, K]."""
        return self.x[..., 0]

    @property
    def last(self) -> Array:
        """Highest x, [G, K]."""
        return np.asarray(np.where(self.present, self.x, -FAR).max(-1))

    @property
    def best(self) -> Index:
        """Index of the cell of the lowest loss, [G, K]."""
        return np.asarray(np.where(self.present, self.mean, np.inf).argmin(-1))

    @property
    def spacing(self) -> Array:
        """Median distance of neighbouring cells, octaves, [G, K]; 1 for a single cell."""
        gaps = np.where(self.present[..., 1:], np.diff(self.x), np.nan)
        gaps[self.count < 2] = 1.0
        return nanmedian(gaps, axis=-1)

    def at(self, values: Array, index: Index) -> Array:
        """Take from values [G, K, C] one cell of each width, [G, K]."""
        return np.asarray(np.take_along_axis(values, index[..., None], axis=-1)[..., 0])

    def normalised(self) -> tuple[Cells, Array, Array]:
        """Rescale the losses to units of the excess of a low cell over the best of its width.

        Fits must not depend on the unit of the losses. A low cell gives it, because broken runs may
        be among the others.

        Returns:
            The cells, and by sweep the level that was taken off and the unit, [G] each.
        """
        ordered_GKC = np.sort(np.where(self.present, self.mean, np.nan), axis=-1)  # NaN last
        fourth_GK = np.clip(self.count - 1, 0, LOW_CELL).astype(np.intp)
        excess_GK = np.nan_to_num(self.at(ordered_GKC, fourth_GK) - ordered_GKC[..., 0])
        typical_G, largest_G = np.median(excess_GK, axis=1), excess_GK.max(1)
        # the median over widths, otherwise the largest, otherwise 1
        fallback_G = np.where(largest_G > 0, largest_G, 1.0)
        unit_G = np.where(typical_G > 0, typical_G, fallback_G)
        level_G = np.nan_to_num(np.where(self.present, self.mean, np.inf).min((1, 2)), posinf=0.0)
        level_G11, unit_G11 = level_G[:, None, None], unit_G[:, None, None]
        scaled = replace(
            self,
            losses=(self.losses - level_G11[..., None]) / unit_G11[..., None],
            mean=np.where(self.present, (self.mean - level_G11) / unit_G11, 0.0),
        )
        return scaled, level_G, unit_G

    def without(self, cells: Mask) -> Cells:
        """Leave out some of the highest cells of a width."""
        return replace(
            self,
            x=np.where(cells, FAR, self.x),
            losses=np.where(cells[..., None], np.nan, self.losses),
            mean=np.where(cells, 0.0, self.mean),
            n=np.where(cells, 0.0, self.n),
        )


def first_noise(cells: Cells) -> Array:
    """Sd of a cell mean, [G], by medians, so that a cliff does not inflate it.

    With several seeds, from the variance within cells, net of the shift that a seed has in all of
    them. With one, from third differences of neighbouring cells, to which a parabola adds nothing.
    """
    repeated_GKC = cells.n >= 2
    has_seeds_G = repeated_GKC.any((1, 2))
    noise_G = np.empty(len(cells.x))
    if has_seeds_G.any():
        noise_G[has_seeds_G] = _within_cells(cells, repeated_GKC)[has_seeds_G]
    if not has_seeds_G.all():
        noise_G[~has_seeds_G] = _third_differences(cells)[~has_seeds_G]
    # floor: a tiny share of the median excess
    lowest_GK1 = np.where(cells.present, cells.mean, np.inf).min(-1, keepdims=True)
    excess_GKC = cells.mean - np.where(cells.present, lowest_GK1, 0)
    flat = np.where(cells.present, excess_GKC, np.nan).reshape(len(noise_G), -1)
    scale_G = np.nan_to_num(nanmedian(flat, axis=1))
    return np.asarray(np.maximum(noise_G, LEAST_NOISE * np.maximum(scale_G, LEAST_NOISE)))


def _within_cells(cells: Cells, repeated_GKC: Mask) -> Array:
    """Sd of a cell mean, [G], from its seeds: the median over cells of variance / n, divided by the
    median of chi^2(n - 1) / (n - 1)."""
    missing_GKCS = np.isnan(cells.losses) | ~repeated_GKC[..., None]
    away_GKCS = np.where(missing_GKCS, np.nan, cells.losses - cells.mean[..., None])
    # a seed's shift is its median deviation over the cells; then the cells are centred again
    with np.errstate(all="ignore"):
        of_seed_GKS = nanmedian(away_GKCS, axis=-2)
    away_GKCS = away_GKCS - np.nan_to_num(of_seed_GKS)[..., None, :]
    away_GKCS = np.where(missing_GKCS, 0.0, away_GKCS)
    n_GKC = np.maximum(cells.n, 2)
    away_GKCS = away_GKCS - (away_GKCS.sum(-1) / n_GKC)[..., None]
    away_GKCS = np.where(missing_GKCS, 0.0, away_GKCS)
    typical_GKC = stats.chi2.ppf(0.5, n_GKC - 1) / (n_GKC - 1)
    variance_GKC = (away_GKCS**2).sum(-1) / (n_GKC - 1) / typical_GKC / n_GKC
    flat = np.where(repeated_GKC, variance_GKC, np.nan).reshape(len(variance_GKC), -1)
    return np.asarray(np.sqrt(nanmedian(flat, axis=1)))


def _third_differences(cells: Cells) -> Array:
    """Sd of a cell mean, [G], from the median absolute third difference, which for independent
    normal noise is sqrt(1 + 9 + 9 + 1) / 1.4826 times the sd."""
    m, there = cells.mean, cells.present
    third = m[..., 3:] - 3 * m[..., 2:-1] + 3 * m[..., 1:-2] - m[..., :-3]
    flat = np.where(there[..., 3:], np.abs(third), np.nan).reshape(len(m), -1)
    return np.asarray(np.nan_to_num(1.4826 * nanmedian(flat, axis=1) / np.sqrt(20)))


def broken(cells: Cells, noise_G: Array) -> Mask:
    """Cells above the optimum that are far out of the bowl: finite runs that are broken, [G, K, C].

    Going up from the lowest cell: the first whose excess loss exceeds the one 2.5 octaves below the
    lowest cell by 6 sqrt(2) noise, and all above it. None where the lowest cell is the first.
    """
    best_GK = cells.best
    lowest_GK, at_GK = cells.at(cells.mean, best_GK), cells.at(cells.x, best_GK)
    excess_GKC = cells.mean - lowest_GK[..., None]
    # excess 2.5 octaves below, between the two cells around it
    target_GK = at_GK - TRIM_REACH
    below_GK = (cells.x <= target_GK[..., None]).sum(-1) - 1
    low_GK = np.maximum(below_GK, 0)
    high_GK = np.minimum(low_GK + 1, cells.x.shape[-1] - 1)
    x0, x1 = cells.at(cells.x, low_GK), cells.at(cells.x, high_GK)
    e0, e1 = cells.at(excess_GKC, low_GK), cells.at(excess_GKC, high_GK)
    share_GK = np.clip((target_GK - x0) / np.where(x1 > x0, x1 - x0, 1), 0, 1)
    inside_GK = e0 + (e1 - e0) * share_GK
    # where the grid ends before, that of its first cell scaled as a parabola
    reach_GK = np.where(at_GK > cells.first, at_GK - cells.first, 1)
    scaled_GK = excess_GKC[..., 0] * (TRIM_REACH / reach_GK) ** 2
    allowed_GK = np.where(below_GK >= 0, inside_GK, scaled_GK) + 6 * np.sqrt(2) * noise_G[:, None]
    above_GKC = np.arange(cells.x.shape[-1]) > best_GK[..., None]
    over_GKC = cells.present & (excess_GKC > allowed_GK[..., None]) & above_GKC
    trimmed_GKC: Mask = np.logical_or.accumulate(over_GKC, axis=-1) & cells.present
    return trimmed_GKC & (best_GK > 0)[..., None]


def cells_of(sweeps: Sequence[pd.DataFrame], axis: str, loss: str) -> Cells:
    """Stack the cells of several sweeps with the same number of widths.

    Args:
        sweeps: one row per trial, columns `width`, `axis` (positive), `loss` (not finite for a
            diverged trial), and `seed` where there are several; rows that repeat all of these are
            replicates.
    """
    parts = [_width(table, axis, loss) for sweep in sweeps for _, table in sweep.groupby("width")]
    x, losses, upper = zip(*parts, strict=True)
    counts, means = zip(*(_cell_means(part) for part in losses), strict=True)
    widths = [np.unique(sweep["width"]).astype(np.float64) for sweep in sweeps]
    g, least = len(sweeps), (LEAST_CELLS,)
    return Cells(
        x=padded(x, g, FAR, least),
        losses=padded(losses, g, np.nan, least),
        mean=padded(means, g, 0.0, least),
        n=padded(counts, g, 0.0, least),
        upper=np.array(upper).reshape(g, -1),
        log2_width=np.log2(np.array(widths)),
    )


def _width(table: pd.DataFrame, axis: str, loss: str) -> tuple[Array, Array, float]:
    """The finite cells of one width, ascending: x [C], losses [C, S], and the upper bound."""
    # a value at which any seed diverged is no cell
    x = np.log2(table[axis].to_numpy(dtype=np.float64)).round(SAME)
    value = table[loss].to_numpy(dtype=np.float64)
    seed = table["seed"].to_numpy() if "seed" in table else np.zeros(len(x), dtype=int)
    diverged = np.unique(x[~(np.abs(value) < BROKEN)])
    good = ~np.isin(x, diverged)
    cells, inverse = np.unique(x[good], return_inverse=True)
    row: Index = inverse.astype(np.intp)
    column = _columns(row, seed[good])
    losses = np.full((cells.size, int(column.max()) + 1 if column.size else 1), np.nan)
    losses[row, column] = value[good]
    # the optimum lies below the first diverged cell that follows the finite ones closely
    upper = float(cells[-1]) if cells.size else -FAR
    if cells.size > 1:
        beyond = diverged - upper
        near = diverged[(beyond > 0) & (beyond <= GAP * float(np.median(np.diff(cells))))]
        upper = float(near.min()) if near.size else upper
    return cells, losses, upper


def _columns(cell: Index, seed: npt.NDArray[np.generic]) -> Index:
    """A column for each seed, and further ones for its replicates in a cell."""
    # number the repeats of a (cell, seed) pair: its place within its run of equal sorted keys
    of_seed = np.unique(seed, return_inverse=True)[1]
    run = cell * (of_seed.max(initial=0) + 1) + of_seed
    order = np.argsort(run, kind="stable")
    starts = np.searchsorted(run[order], run[order])
    replicate = np.empty_like(run)
    replicate[order] = np.arange(run.size) - starts
    column = of_seed * (replicate.max(initial=0) + 1) + replicate
    return np.asarray(np.unique(column, return_inverse=True)[1], dtype=np.intp)


def _cell_means(losses_CS: Array) -> tuple[Array, Array]:
    """Number of losses and mean of each cell, [C], as if every seed had every cell.

    Least squares of loss = cell + level of the seed + slope of the seed: a seed that is missing
    from some cells would otherwise bend the bowl by its offset, and look like noise where it is.
    """
    missing_CS = np.isnan(losses_CS)
    count_C = (~missing_CS).sum(1).astype(np.float64)
    n_C = np.maximum(count_C, 1)
    means_C: Array = np.where(missing_CS, 0.0, losses_CS).sum(1) / n_C
    if not missing_CS.any():
        return count_C, means_C
    cell, seed = np.nonzero(~missing_CS)
    cells, seeds = losses_CS.shape
    x_C = np.arange(cells) - (cells - 1) / 2
    # one row per trial: indicators of its cell, of its seed, and of its seed times x
    of_seed = np.eye(seeds)[seed]
    design = np.concatenate([np.eye(cells)[cell], of_seed, of_seed * x_C[cell][:, None]], axis=1)
    effects = np.linalg.lstsq(design, losses_CS[cell, seed], rcond=None)[0]
    # effects are [C cells, S levels, S slopes]; take each seed's part out of the cell means
    level_S, slope_S = effects[cells : cells + seeds], effects[cells + seeds :]
    shift_CS = level_S - level_S.mean() + (slope_S - slope_S.mean()) * x_C[:, None]
    means_C -= np.where(missing_CS, 0.0, shift_CS).sum(1) / n_C
    return count_C, means_C
