"""From tables of trials to cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from mutransfer_cli.fit.cells import FAR, Cells

Array = npt.NDArray[np.float64]

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
