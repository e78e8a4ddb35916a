"""How what was measured in training goes with width."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from mutransfer_cli.fit.result import LEVEL


def width_slopes(values: pd.DataFrame) -> pd.Series[float]:
    """Slope of log(value) over log(width), for each name and seed.

    Of top singular values after training it is to be 0 where weight decay is scaled so that the
    steady state is alike at all widths (Fan et al. 2025, arXiv 2510.15262).

    Args:
        values: one row a name, seed and width, with a value above 0.

    Raises:
        ValueError: a name with one width only.
    """
    logs = values.assign(width=np.log(values["width"]), value=np.log(values["value"]))
    found = {}
    for key, one in logs.groupby(["name", "seed"]):
        if one["width"].nunique() < 2:
            raise ValueError(f"{key[0]}: was measured at one width only; two are needed")
        found[key] = float(stats.linregress(one["width"], one["value"]).slope)
    index = pd.MultiIndex.from_tuples(found, names=["name", "seed"])
    return pd.Series(list(found.values()), index=index, dtype=float)


def t_interval(values: npt.ArrayLike) -> tuple[float, float]:
    """Mean and half-width of its interval at LEVEL, of two values or more."""
    drawn = np.asarray(values, dtype=float)
    half = stats.t.ppf((1 + LEVEL) / 2, len(drawn) - 1) * stats.sem(drawn)
    return float(drawn.mean()), float(half)
