"""Tables of trials before they become cells: one row per trial, with the width, the values of the
hyperparameters, the seed and the loss.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd


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
