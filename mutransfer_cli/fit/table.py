"""Tables of trials before they become cells: one row per trial, with the width, the values of the
hyperparameters, the seed and the loss.

Here values that differ by rounding become one, and runs that are suspiciously equal count once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from mutransfer_cli.fit.arrays import Array
from mutransfer_cli.fit.sentences import repeat_warnings
from mutransfer_cli.rules.plan import AXES

ROUNDING = 0.03  # octaves, 2 %; rounding to three digits, and most to two, moves values by less
SUSPECT = 0.5  # share of the repeated cells without any difference from which it is no chance


def with_one_value_each(trials: pd.DataFrame, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Replace values of a hyperparameter that differ by rounding by one of them.

    Args:
        columns: further hyperparameters beside those of every sweep.
    """
    changed = {}
    for name in _hyperparameters(trials, columns):
        values = merged(column := trials[name])
        if values is not column:
            changed[name] = values
    return trials.assign(**changed) if changed else trials


def merged(values: pd.Series[float]) -> pd.Series[float]:
    """The values, with one for each cluster of positive ones that spans up to `ROUNDING` octaves.

    Clusters start at the lowest value and at the next one beyond the reach of the last, so that
    dense values are binned and never chained. A cluster becomes its most frequent value; of
    several the one with the most digits, because rounding takes digits away; of several the middle
    one. It stays more than the reach below that of the next cluster, so that merged values stay as
    they are when they are merged again.
    """
    number = values.to_numpy(dtype=np.float64, copy=True)
    positive = (number > 0) & np.isfinite(number)
    distinct, times = np.unique(number[positive], return_counts=True)
    octaves: Array = np.log2(distinct)
    reach = octaves + ROUNDING
    if (reach[:-1] < octaves[1:]).all():
        return values
    ends = [0]
    while ends[-1] < distinct.size:
        ends.append(int(np.searchsorted(octaves, reach[ends[-1]], side="right")))
    becomes, above = np.empty_like(distinct), np.inf
    for start, end in reversed(list(pairwise(ends))):
        # the first value of a cluster always lies more than the reach below the next cluster
        free = start + np.flatnonzero(reach[start:end] < above)
        frequent = free[times[free] == times[free].max()]
        digits = np.array([len(np.format_float_scientific(distinct[one])) for one in frequent])
        precise = frequent[digits == digits.max()]
        chosen = precise[(precise.size - 1) // 2]
        becomes[start:end], above = distinct[chosen], octaves[chosen]
    number[positive] = becomes[np.searchsorted(distinct, number[positive])]
    return pd.Series(number, index=values.index, name=values.name)


def without_repeats(
    trials: pd.DataFrame, axes: Sequence[str], loss: str
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Count equal losses of a cell once where chance cannot explain them, with a warning.

    Independent runs hardly ever end at the same loss. So where every finite loss occurs more than
    once in at least half of the cells with several, a table was pasted twice, seeds did not reach
    the runs, or the losses were rounded too far. Otherwise all rows stay.

    Args:
        axes: columns that, beside width and the hyperparameters of every sweep, tell cells apart.

    Returns:
        The rows, without repeats of a width, hyperparameters and loss (the lowest seed stays), and
        the warning by code.
    """
    cell = ["width", *_hyperparameters(trials, axes)]
    if not trials[loss].duplicated().any():
        return trials, {}
    finite = trials[np.isfinite(trials[loss])]
    if not finite.duplicated([*cell, loss]).any():
        return trials, {}
    times = finite.groupby([*cell, loss], dropna=False).size().rename("times").reset_index()
    cells = times.groupby(cell, dropna=False)["times"].agg(["sum", "min"]).reset_index()
    several, equal = cells[cells["sum"] > 1], cells[cells["min"] > 1]
    if len(equal) < SUSPECT * len(several):
        return trials, {}
    first = times.merge(equal[cell].iloc[:1], on=cell).iloc[0]
    varied = [name for name in cell[1:] if trials[name].nunique() > 1]
    example = {name: float(first[name]) for name in ["width", *varied, loss]}
    rows = trials.reset_index(drop=True)
    order = [name for name in ("seed", "train_loss") if name in rows]
    ranked = rows.sort_values(order, kind="stable") if order else rows
    kept = rows.loc[ranked.drop_duplicates([*cell, loss]).index.sort_values()]
    counts = (len(equal), len(several), len(trials) - len(kept))
    return kept, repeat_warnings(*counts, example)


def prepared(
    groups: Mapping[str, pd.DataFrame], axes: Sequence[str], loss: str
) -> tuple[dict[str, pd.DataFrame], dict[str, dict[str, str]]]:
    """The tables of some groups as they are fitted, and warnings about them, by group."""
    tables, warnings = {}, {}
    for name, trials in groups.items():
        rows = with_one_value_each(trials, axes)
        tables[name], warnings[name] = without_repeats(rows, axes, loss)
    return tables, warnings


def profile(
    trials: pd.DataFrame, axes: Sequence[str], others: Sequence[str], loss: str
) -> pd.DataFrame:
    """Keep the rows of the best combination of `others` at each width and value of `axes`.

    The best has the least mean loss over seeds; a combination with a diverged trial comes last.
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


def _hyperparameters(trials: pd.DataFrame, further: Sequence[str]) -> list[str]:
    """The columns that hold hyperparameters: those that every sweep may have, and further ones."""
    return [name for name in dict.fromkeys([*AXES, *further]) if name in trials]
