"""Cells from tables of trials: losses by width and value of the hyperparameter, net of what their
seeds share, and the first estimate of their noise.

Shapes: G sweeps at once, K widths, C cells, S columns of runs: one for each seed that several cells
share, then columns of replicates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import stats

from mutransfer_cli.fit.arrays import JITTER, Array, Index, Mask, Words, nanmedian, padded
from mutransfer_cli.fit.seeds import seed_lines

FAR = 1e3  # octaves; x of absent cells
LOW_CELL = 3  # index of a low cell: the fourth lowest
LEAST_NOISE = 1e-7  # share of the median excess loss; weights are finite only with some noise
SAME = 6  # decimals; log2 values that agree to so many are one
LEAST_CELLS = 4  # smallest C, so that third differences exist
LEAST_FREEDOM = 6  # degrees of freedom within cells that tell the noise better than neighbours do
MOST_SEEDS = 100  # that runs may share; more are ids of runs rather than seeds
BROKEN = 1e100  # a loss that counts as not finite
GAP = 2  # cells; a diverged cell further above the highest finite one is no bound


@dataclass(frozen=True)
class Cells:
    """Cells with finite losses only, ascending in x, absent ones last."""

    x: Array
    """log2 of the hyperparameter, [G, K, C]; FAR for absent cells."""
    losses: Array
    """Loss of each run, [G, K, C, S], nats; NaN where there is none."""
    seed: Words
    """Name of each run's seed, [G, K, C, S]; empty where it has none."""
    seeded: Mask
    """Whether a column holds the runs of one seed, [G, K, S], and not replicates."""
    n: Array
    """Runs in each cell, [G, K, C]; 0 for absent cells."""
    mean: Array
    """Mean loss net of the seeds' lines, [G, K, C]; 0 for absent cells."""
    away: Array
    """Each loss minus mean and line, [G, K, C, S]; 0 where there is none."""
    freedom: Array
    """Degrees of freedom within the cells over n - 1 of each, [G, K]: the lines take some."""
    trust: Array
    """Factor on the weight of each cell, [G, K, C], below 1 where no bowl is trusted to hold."""
    upper: Array
    """x above which the optimum cannot lie, [G, K]: the highest cell, or the diverged one that
    follows it."""
    log2_width: Array
    """[G, K]."""

    @classmethod
    def of(
        cls,
        x: Array,
        losses: Array,
        upper: Array,
        log2_width: Array,
        seed: Words | None = None,
        seeded: Mask | None = None,
    ) -> Cells:
        """Cells of runs, whose seeds' lines are taken out of the means.

        Args:
            seed: no run has one where None.
            seeded: every column is a seed where None.
        """
        if seeded is None:
            seeded = np.ones((*losses.shape[:2], losses.shape[-1]), dtype=bool)
        lines = seed_lines(x, losses, seeded)
        there_GKCS = ~np.isnan(losses)
        n_GKC = there_GKCS.sum(-1).astype(np.float64)
        net_GKCS = np.where(there_GKCS, losses - lines.line, 0.0)
        mean_GKC = net_GKCS.sum(-1) / np.maximum(n_GKC, 1)
        within_GK = np.maximum(n_GKC - 1, 0).sum(-1)
        return cls(
            x=x,
            losses=losses,
            seed=np.full(losses.shape, "") if seed is None else seed,
            seeded=seeded,
            n=n_GKC,
            mean=mean_GKC,
            away=np.where(there_GKCS, net_GKCS - mean_GKC[..., None], 0.0),
            freedom=np.maximum(1 - lines.spent / np.maximum(within_GK, 1), 0.0),
            trust=np.ones_like(mean_GKC),
            upper=upper,
            log2_width=log2_width,
        )

    @property
    def present(self) -> Mask:
        return self.n > 0

    @cached_property
    def count(self) -> Array:
        """Number of cells at each width, [G, K]."""
        return np.asarray(self.present.sum(-1).astype(np.float64))

    @property
    def mean_n(self) -> Array:
        """Mean number of seeds of a cell, [G]; 1 where there is no cell."""
        cells = self.count.sum(1)
        return np.asarray(np.where(cells > 0, self.n.sum((1, 2)) / np.maximum(cells, 1), 1.0))

    @cached_property
    def first(self) -> Array:
        """Lowest x, [G, K]."""
        return self.x[..., 0]

    @cached_property
    def last(self) -> Array:
        """Highest x, [G, K]."""
        return np.asarray(np.where(self.present, self.x, -FAR).max(-1))

    @property
    def best(self) -> Index:
        """Index of the cell of the lowest loss, [G, K]."""
        return np.asarray(np.where(self.present, self.mean, np.inf).argmin(-1))

    @cached_property
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
            away=self.away / unit_G11[..., None],
        )
        return scaled, level_G, unit_G

    def without(self, cells: Mask) -> Cells:
        """Leave out some of the highest cells of a width."""
        return replace(
            self,
            x=np.where(cells, FAR, self.x),
            losses=np.where(cells[..., None], np.nan, self.losses),
            mean=np.where(cells, 0.0, self.mean),
            away=np.where(cells[..., None], 0.0, self.away),
            n=np.where(cells, 0.0, self.n),
        )

    def without_runs(self, runs: Mask) -> Cells:
        """Leave out runs [G, K, C, S], and with the last one of a cell the cell."""
        losses_GKCS = np.where(runs, np.nan, self.losses)
        x_GKC = np.where(np.isnan(losses_GKCS).all(-1), FAR, self.x)
        order_GKC = x_GKC.argsort(-1, kind="stable")  # absent cells last
        losses, seed = (
            np.take_along_axis(values, order_GKC[..., None], axis=2)
            for values in (losses_GKCS, self.seed)
        )
        x = np.take_along_axis(x_GKC, order_GKC, axis=2)
        last_GK = np.where(x < FAR, x, -FAR).max(-1)
        upper = np.where(self.upper > self.last, self.upper, last_GK)
        return Cells.of(x, losses, upper, self.log2_width, seed, self.seeded)

    def without_deviations(self) -> Cells:
        """The means alone, as one run each that counts as often as the runs of its cell."""
        return replace(
            self,
            losses=np.where(self.present, self.mean, np.nan)[..., None],
            seed=np.full((*self.x.shape, 1), ""),
            seeded=np.zeros((*self.x.shape[:2], 1), dtype=bool),
            away=np.zeros((*self.x.shape, 1)),
            freedom=np.zeros(self.x.shape[:2]),
        )


def first_noise(cells: Cells) -> Array:
    """Sd of a cell mean, [G], by medians, so that a cliff does not inflate it.

    From the variance within cells where that has enough degrees of freedom, otherwise from third
    differences of neighbouring cells, to which a parabola adds nothing.
    """
    within_GK = np.maximum(cells.n - 1, 0).sum(-1) * cells.freedom
    repeated_G = within_GK.sum(1) >= LEAST_FREEDOM
    noise_G = np.empty(len(cells.x))
    if repeated_G.any():
        noise_G[repeated_G] = _within_cells(cells)[repeated_G]
    if not repeated_G.all():
        noise_G[~repeated_G] = _third_differences(cells)[~repeated_G]
    # floor: a tiny share of the median excess
    lowest_GK1 = np.where(cells.present, cells.mean, np.inf).min(-1, keepdims=True)
    excess_GKC = cells.mean - np.where(cells.present, lowest_GK1, 0)
    flat = np.where(cells.present, excess_GKC, np.nan).reshape(len(noise_G), -1)
    scale_G = np.nan_to_num(nanmedian(flat, axis=1))
    return np.asarray(np.maximum(noise_G, LEAST_NOISE * np.maximum(scale_G, LEAST_NOISE)))


def low_noise(cells: Cells, noise_G: Array) -> Array:
    """The noise of the lower half of the cells, [G], where their runs tell it and it is smaller."""
    half_GK1 = nanmedian(np.where(cells.present, cells.mean, np.nan), axis=-1)[..., None]
    low_GKC = cells.present & (cells.mean <= half_GK1)
    found_G = _within_cells(replace(cells, n=np.where(low_GKC, cells.n, 0.0)))
    return np.where(found_G > 0, np.minimum(noise_G, found_G), noise_G)


def _within_cells(cells: Cells) -> Array:
    """Sd of the mean of a cell of mean_n runs, [G]: the median over cells of the variance of their
    runs, divided by the median of chi^2(n - 1) / (n - 1)."""
    repeated_GKC = cells.n >= 2
    n_GKC = np.maximum(cells.n, 2)
    typical_GKC = stats.chi2.ppf(0.5, n_GKC - 1) / (n_GKC - 1)
    free_GKC = (n_GKC - 1) * np.maximum(cells.freedom, JITTER)[..., None]
    variance_GKC = (cells.away**2).sum(-1) / free_GKC / typical_GKC
    variance_GKC /= cells.mean_n[:, None, None]
    flat = np.where(repeated_GKC, variance_GKC, np.nan).reshape(len(variance_GKC), -1)
    return np.asarray(np.nan_to_num(np.sqrt(nanmedian(flat, axis=1))))


def _third_differences(cells: Cells) -> Array:
    """Sd of a cell mean, [G], from the median absolute third difference, which for independent
    normal noise is sqrt(1 + 9 + 9 + 1) / 1.4826 times the sd."""
    m, there = cells.mean, cells.present
    third = m[..., 3:] - 3 * m[..., 2:-1] + 3 * m[..., 1:-2] - m[..., :-3]
    flat = np.where(there[..., 3:], np.abs(third), np.nan).reshape(len(m), -1)
    return np.asarray(np.nan_to_num(1.4826 * nanmedian(flat, axis=1) / np.sqrt(20)))


def cells_of(sweeps: Sequence[pd.DataFrame], axis: str, loss: str) -> Cells:
    """Stack the cells of several sweeps with the same number of widths.

    Args:
        sweeps: one row per trial, columns `width`, `axis` (positive), `loss` (not finite for a
            diverged trial), and `seed` where there are several; rows that repeat all of these are
            replicates.
    """
    parts = [part for sweep in sweeps for part in _widths(sweep, axis, loss)]
    x, losses, seed, seeded, upper = zip(*parts, strict=True)
    widths = [np.unique(sweep["width"]).astype(np.float64) for sweep in sweeps]
    g, least = len(sweeps), (LEAST_CELLS,)
    return Cells.of(
        x=padded(x, g, FAR, least),
        losses=padded(losses, g, np.nan, least),
        upper=np.array(upper).reshape(g, -1),
        log2_width=np.log2(np.array(widths)),
        seed=padded(seed, g, "", least),
        seeded=padded(seeded, g, False),
    )


Width = tuple[Array, Array, Words, Mask, float]


def _widths(sweep: pd.DataFrame, axis: str, loss: str) -> Iterator[Width]:
    """The cells of each width of a sweep, in ascending order."""
    width = sweep["width"].to_numpy(dtype=np.float64)
    x = np.log2(sweep[axis].to_numpy(dtype=np.float64)).round(SAME)
    value = sweep[loss].to_numpy(dtype=np.float64)
    seed, names = np.zeros(len(x), dtype=np.intp), np.array([""])
    if "seed" in sweep:
        codes, seeds = pd.factorize(sweep["seed"].to_numpy(), use_na_sentinel=False)
        names, order = np.unique(np.array([str(one) for one in seeds]), return_inverse=True)
        seed = order[codes]
    for one in np.unique(width):
        rows = width == one
        yield _width(x[rows], value[rows], seed[rows], names)


def _width(x: Array, value: Array, seed: Index, names: Words) -> Width:
    """The finite cells of one width, ascending: x [C], losses and seeds [C, S], which columns are
    seeds [S], and the upper bound."""
    # a value at which any run diverged is no cell
    diverged = np.unique(x[~(np.abs(value) < BROKEN)])
    good = ~np.isin(x, diverged)
    cells = np.unique(x[good])
    losses, labels, seeded = _runs(np.searchsorted(cells, x[good]), value[good], seed[good], names)
    # the optimum lies below the first diverged cell that follows the finite ones closely
    upper = float(cells[-1]) if cells.size else -FAR
    if cells.size > 1:
        beyond = diverged - upper
        near = diverged[(beyond > 0) & (beyond <= GAP * float(np.median(np.diff(cells))))]
        upper = float(near.min()) if near.size else upper
    return cells, losses, labels, seeded, upper


def _runs(cell: Index, value: Array, seed: Index, names: Words) -> tuple[Array, Words, Mask]:
    """Losses and names of seeds, [C, S], and which columns are seeds, [S].

    A seed that several cells share has a column, and its further runs in a cell are averaged: they
    saw the same data. All other runs, and those of a single seed, are replicates; their columns
    are in the order of the losses, so that the order of rows does not matter.
    """
    # the mean of each (cell, seed), and in how many cells a seed is
    pair, of_pair = np.unique(cell * len(names) + seed, return_inverse=True)
    pair_cell, pair_seed = np.divmod(pair, len(names))
    pair_value = np.bincount(of_pair, value) / np.bincount(of_pair)
    shared = (np.bincount(pair_seed, minlength=len(names)) > 1) & (names != "")
    shared &= bool(1 < shared.sum() <= MOST_SEEDS)
    own, single = shared[pair_seed], np.flatnonzero(~shared[seed])
    order = single[np.lexsort((seed[single], value[single], cell[single]))]
    place = np.arange(order.size) - np.searchsorted(cell[order], cell[order])
    columns = int(shared.sum()) + int(place.max(initial=-1)) + 1
    losses = np.full((int(cell.max(initial=-1)) + 1, max(columns, 1)), np.nan)
    labels = np.full(losses.shape, "", dtype=names.dtype)
    at = (pair_cell[own], (np.cumsum(shared) - 1)[pair_seed[own]])
    losses[at], labels[at] = pair_value[own], names[pair_seed[own]]
    at = (cell[order], shared.sum() + place)
    losses[at], labels[at] = value[order], names[seed[order]]
    return losses, labels, np.arange(losses.shape[1]) < shared.sum()
