"""Tables of trials before they become cells: one row per trial, with the width, the values of the
hyperparameters, the seed and the loss.

Here values that differ by rounding become one, and runs that are suspiciously equal count once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from mutransfer_cli.fit.sentences import repeat_warnings
from mutransfer_cli.spec.rounding import hyperparameters, with_one_value_each

SUSPECT = 0.5  # share of the repeated cells without any difference from which it is no chance


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
    cell = ["width", *hyperparameters(trials, axes)]
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
