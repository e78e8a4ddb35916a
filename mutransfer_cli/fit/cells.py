"""Losses by width and hyperparameter value: cells, their first noise, and broken runs.

Shapes: G sweeps at once, K widths, C cells (one a value of the hyperparameter), S seeds.

MERGED:
From tables of trials to cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

FAR = 1e3  # octaves; where cells that do not exist lie
TRIM_REACH = 2.5  # octaves
LOW_CELL = 3  # the fourth lowest
LEAST_NOISE = 1e-7  # of the median excess loss; without noise nothing could be weighed


@dataclass(frozen=True)
class Cells:
    """Cells with finite losses only, ascending in x, absent ones last.

    Attributes:
        x: log2 of the hyperparameter, [G, K, C]; FAR for absent cells.
        losses: by seed, [G, K, C, S], nats; NaN where a seed has no trial.
        mean: over seeds, [G, K, C]; 0 for absent cells.
        n: seeds in each cell, [G, K, C]; 0 for absent cells.
        upper: x above which the optimum cannot lie, [G, K]: the highest cell, or the diverged one
            that follows it.
        log2_width: [G, K].
    """

    x: Array
    losses: Array
    mean: Array
    n: Array
    upper: Array
    log2_width: Array

    @property
    def present(self) -> Mask:
        return self.n > 0

    @property
    def count(self) -> Array:
        """Cells of each width, [G, K]."""
        counted: Array = self.present.sum(-1).astype(np.float64)
        return counted

    @property
    def mean_n(self) -> Array:
        """Mean number of seeds of a cell, [G]; 1 where there is no cell."""
        cells = self.count.sum(1)
        mean: Array = np.where(cells > 0, self.n.sum((1, 2)) / np.maximum(cells, 1), 1.0)
        return mean

    @property
    def first(self) -> Array:
        return self.x[..., 0]

    @property
    def last(self) -> Array:
        highest: Array = np.where(self.present, self.x, -FAR).max(-1)
        return highest

    @property
    def best(self) -> npt.NDArray[np.intp]:
        """Index of the lowest cell, [G, K]."""
        lowest: npt.NDArray[np.intp] = np.where(self.present, self.mean, np.inf).argmin(-1)
        return lowest

    @property
    def spacing(self) -> Array:
        """Median distance of neighbouring cells, octaves, [G, K]; 1 for a single cell."""
        gaps = np.where(self.present[..., 1:], np.diff(self.x), np.nan)
        lonely = self.count < 2
        gaps[lonely] = 1.0
        return nanmedian(gaps, axis=-1)

    def at(self, values: Array, index: npt.NDArray[np.intp]) -> Array:
        """values [G, K, C] at one cell of each width, [G, K]."""
        taken: Array = np.take_along_axis(values, index[..., None], axis=-1)[..., 0]
        return taken

    def normalised(self) -> tuple[Cells, Array, Array]:
        """The same in units of the excess of a low cell over the best of its width.

        Returns:
            The cells, and by sweep the level that was taken off and the unit, [G] each: fits must
            not depend on whether losses are in nats, bits or anything else. A unit from all cells
            would be that of broken runs where there are many.
        """
        ordered = np.sort(np.where(self.present, self.mean, np.nan), axis=-1)  # NaN last
        fourth = np.clip(self.count - 1, 0, LOW_CELL).astype(np.intp)
        excess = np.nan_to_num(self.at(ordered, fourth) - ordered[..., 0])
        typical, largest = np.median(excess, axis=1), excess.max(1)
        unit = np.where(typical > 0, typical, np.where(largest > 0, largest, 1.0))
        level = np.nan_to_num(np.where(self.present, self.mean, np.inf).min((1, 2)), posinf=0.0)
        of, by = level[:, None, None], unit[:, None, None]
        scaled = replace(
            self,
            losses=(self.losses - of[..., None]) / by[..., None],
            mean=np.where(self.present, (self.mean - of) / by, 0.0),
        )
        return scaled, level, unit

    def without(self, cells: Mask) -> Cells:
        """The same with some of the highest cells of a width left out."""
        return Cells(
            x=np.where(cells, FAR, self.x),
            losses=np.where(cells[..., None], np.nan, self.losses),
            mean=np.where(cells, 0.0, self.mean),
            n=np.where(cells, 0.0, self.n),
            upper=self.upper,
            log2_width=self.log2_width,
        )


def first_noise(cells: Cells) -> Array:
    """Sd of a cell mean, [G], by medians, so that a cliff does not inflate it.

    With seeds: from the variance within cells, what a seed shifts at all values taken out. With
    one: from third differences of neighbouring cells, in which a parabola leaves nothing.
    """
    repeated = cells.n >= 2
    has_seeds = repeated.any((1, 2))
    noise = np.empty(len(cells.x))
    if has_seeds.any():
        noise[has_seeds] = _within_cells(cells, repeated)[has_seeds]
    if not has_seeds.all():
        noise[~has_seeds] = _third_differences(cells)[~has_seeds]
    lowest = np.where(cells.present, cells.mean, np.inf).min(-1, keepdims=True)
    excess = np.where(cells.present, cells.mean - np.where(cells.present, lowest, 0), np.nan)
    scale = np.nan_to_num(nanmedian(excess.reshape(len(noise), -1), axis=1))
    least: Array = np.maximum(noise, LEAST_NOISE * np.maximum(scale, LEAST_NOISE))
    return least


def _within_cells(cells: Cells, repeated: Mask) -> Array:
    missing = np.isnan(cells.losses) | ~repeated[..., None]
    away = np.where(missing, np.nan, cells.losses - cells.mean[..., None])
    with np.errstate(all="ignore"):
        of_seed = nanmedian(away, axis=-2)
    away = np.where(missing, 0.0, away - np.nan_to_num(of_seed)[..., None, :])
    n = np.maximum(cells.n, 2)
    away = np.where(missing, 0.0, away - (away.sum(-1) / n)[..., None])
    typical = stats.chi2.ppf(0.5, n - 1) / (n - 1)
    variance = (away**2).sum(-1) / (n - 1) / typical / n
    flat = np.where(repeated, variance, np.nan).reshape(len(variance), -1)
    noise: Array = np.sqrt(nanmedian(flat, axis=1))
    return noise


def _third_differences(cells: Cells) -> Array:
    m, there = cells.mean, cells.present
    third = m[..., 3:] - 3 * m[..., 2:-1] + 3 * m[..., 1:-2] - m[..., :-3]
    flat = np.where(there[..., 3:], np.abs(third), np.nan).reshape(len(m), -1)
    noise: Array = np.nan_to_num(1.4826 * nanmedian(flat, axis=1) / np.sqrt(20))
    return noise


def nanmedian(values: Array, axis: int) -> Array:
    """np.nanmedian without its warning on slices without numbers, which stay NaN."""
    ordered = np.sort(values, axis=axis)  # NaN last
    count = np.isfinite(values).sum(axis, keepdims=True)
    low, high = np.maximum(count - 1, 0) // 2, np.maximum(count, 1) // 2
    high = np.minimum(high, values.shape[axis] - 1)
    pair = [np.take_along_axis(ordered, index, axis=axis) for index in (low, high)]
    middle: Array = np.squeeze((pair[0] + pair[1]) / 2, axis=axis)
    return middle


def broken(cells: Cells, noise: Array) -> Mask:
    """Cells above the optimum that are far out of the bowl: finite runs that are broken, [G, K, C].

    From the lowest cell upwards, the first whose excess is beyond that of 2.5 octaves below the
    lowest cell, by 6 sqrt(2) noise, and all above it. None where the lowest cell is the first.
    """
    best = cells.best
    lowest, at = cells.at(cells.mean, best), cells.at(cells.x, best)
    excess = cells.mean - lowest[..., None]
    target = at - TRIM_REACH
    below = (cells.x <= target[..., None]).sum(-1) - 1
    low = np.maximum(below, 0)
    x0, x1 = cells.at(cells.x, low), cells.at(cells.x, np.minimum(low + 1, cells.x.shape[-1] - 1))
    e0, e1 = cells.at(excess, low), cells.at(excess, np.minimum(low + 1, cells.x.shape[-1] - 1))
    inside = e0 + (e1 - e0) * np.clip((target - x0) / np.where(x1 > x0, x1 - x0, 1), 0, 1)
    reach = np.where(at > cells.first, at - cells.first, 1)
    scaled = excess[..., 0] * (TRIM_REACH / reach) ** 2
    allowed = np.where(below >= 0, inside, scaled) + 6 * np.sqrt(2) * noise[:, None]
    index = np.arange(cells.x.shape[-1])
    over = cells.present & (excess > allowed[..., None]) & (index > best[..., None])
    trimmed: Mask = np.logical_or.accumulate(over, axis=-1) & cells.present
    return trimmed & (best > 0)[..., None]


SAME = 6  # decimals of log2 within which two values are one
LEAST_CELLS = 4  # room for, so that differences of neighbours exist
BROKEN = 1e100  # a loss that is finite in name only
GAP = 2  # a diverged cell further above than so many cells bounds nothing


def profile(
    trials: pd.DataFrame, axes: Sequence[str], others: Sequence[str], loss: str
) -> pd.DataFrame:
    """The rows of the best combination of `others` at each width and value of `axes`.

    Best is the least mean loss over seeds; a combination in which a trial diverged comes last.
    """
    if not others:
        return trials
    cell = ["width", *axes]
    means = cell_means(trials, [*axes, *others], loss)
    best = means.sort_values(loss, kind="stable").drop_duplicates(cell)
    return trials.merge(best[[*cell, *others]], on=[*cell, *others])


def cell_means(trials: pd.DataFrame, axes: Sequence[str], loss: str) -> pd.DataFrame:
    """One row a width and combination of `axes`, with the mean loss; inf where a trial diverged."""
    cell = ["width", *axes]
    ranked = trials[loss].where(np.isfinite(trials[loss]), np.inf)
    return ranked.groupby([trials[name] for name in cell]).mean().reset_index()


def cells_of(sweeps: Sequence[pd.DataFrame], axis: str, loss: str) -> Cells:
    """Cells of several sweeps with as many widths each, stacked.

    Args:
        sweeps: one row a trial, columns `width`, `axis` (positive), `loss` (not finite for a
            diverged trial), and `seed` where there are several; rows that repeat all of these are
            replicates.
    """
    parts = [
        _width(table, float(np.log2(float(width))), axis, loss)  # type: ignore[arg-type]
        for sweep in sweeps
        for width, table in sweep.groupby("width", sort=True)
    ]
    deep = max(LEAST_CELLS, *(part.losses.shape[0] for part in parts))
    wide = max(part.losses.shape[1] for part in parts)
    shape = (len(sweeps), len(parts) // len(sweeps))
    losses = np.full((len(parts), deep, wide), np.nan)
    x, n = np.full((len(parts), deep), FAR), np.zeros((len(parts), deep))
    mean = np.zeros((len(parts), deep))
    for index, part in enumerate(parts):
        count, seeds = part.losses.shape
        losses[index, :count, :seeds] = part.losses
        x[index, :count] = part.x
        n[index, :count] = np.isfinite(part.losses).sum(1)
        mean[index, :count] = _cell_means(part.losses)
    return Cells(
        x=x.reshape(*shape, deep),
        losses=losses.reshape(*shape, deep, wide),
        mean=mean.reshape(*shape, deep),
        n=n.reshape(*shape, deep),
        upper=np.array([part.upper for part in parts]).reshape(shape),
        log2_width=np.array([part.log2_width for part in parts]).reshape(shape),
    )


class _Part:
    """One width: x [C] and losses [C, S] of its finite cells, ascending."""

    def __init__(self, log2_width: float, x: Array, losses: Array, upper: float) -> None:
        self.log2_width, self.x, self.losses, self.upper = log2_width, x, losses, upper


def _width(table: pd.DataFrame, log2_width: float, axis: str, loss: str) -> _Part:
    x = np.log2(table[axis].to_numpy(dtype=np.float64)).round(SAME)
    value = table[loss].to_numpy(dtype=np.float64)
    seed = table["seed"].to_numpy() if "seed" in table else np.zeros(len(x), dtype=int)
    diverged = np.unique(x[~(np.abs(value) < BROKEN)])
    good = ~np.isin(x, diverged)
    cells, inverse = np.unique(x[good], return_inverse=True)
    row: npt.NDArray[np.intp] = inverse.astype(np.intp)
    column = _columns(row, seed[good])
    losses = np.full((cells.size, int(column.max()) + 1 if column.size else 1), np.nan)
    losses[row, column] = value[good]
    upper = float(cells[-1]) if cells.size else -FAR
    if cells.size > 1:
        beyond = diverged - upper
        near = diverged[(beyond > 0) & (beyond <= GAP * float(np.median(np.diff(cells))))]
        upper = float(near.min()) if near.size else upper
    return _Part(log2_width, cells, losses, upper)


def _columns(cell: npt.NDArray[np.intp], seed: npt.NDArray[np.generic]) -> npt.NDArray[np.intp]:
    """A column for each seed, and further ones for its replicates in a cell."""
    of_seed = np.unique(seed, return_inverse=True)[1]
    run = cell * (of_seed.max(initial=0) + 1) + of_seed
    order = np.argsort(run, kind="stable")
    starts = np.searchsorted(run[order], run[order])
    replicate = np.empty_like(run)
    replicate[order] = np.arange(run.size) - starts
    column = of_seed * (replicate.max(initial=0) + 1) + replicate
    return np.asarray(np.unique(column, return_inverse=True)[1], dtype=np.intp)


def _cell_means(losses: Array) -> Array:
    """Means [C] of losses [C, S], as if every seed had every cell.

    By the model loss = cell + level of the seed + slope of the seed: a seed that is missing from
    some cells would else bend the bowl by what it shifts, and look like noise where it is.
    """
    missing = np.isnan(losses)
    n = np.maximum((~missing).sum(1), 1)
    means: Array = np.where(missing, 0.0, losses).sum(1) / n
    if not missing.any():
        return means
    cell, seed = np.nonzero(~missing)
    cells, seeds = losses.shape
    x = np.arange(cells) - (cells - 1) / 2
    of_seed = np.eye(seeds)[seed]
    design = np.concatenate([np.eye(cells)[cell], of_seed, of_seed * x[cell][:, None]], axis=1)
    effects = np.linalg.lstsq(design, losses[cell, seed], rcond=None)[0]
    level, slope = effects[cells : cells + seeds], effects[cells + seeds :]
    shift = level - level.mean() + (slope - slope.mean()) * x[:, None]
    means -= np.where(missing, 0.0, shift).sum(1) / n
    return means
