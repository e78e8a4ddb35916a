"""Values of hyperparameters that differ only by rounding become one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from mutransfer_cli.rules.plan import AXES

Array: TypeAlias = npt.NDArray[np.float64]

FEW_DIGITS = 4  # up to which a value may be another one rounded
ROUNDING = 0.03  # octaves, 2%; rounding to three digits, and most to two, moves values by less


def with_one_value_each(trials: pd.DataFrame, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Replace values of a hyperparameter that differ by rounding by one of them.

    Args:
        columns: further hyperparameters beside those of every sweep.
    """
    changed = {}
    for name in hyperparameters(trials, columns):
        values = merged(column := trials[name])
        if values is not column:
            changed[name] = values
    return trials.assign(**changed) if changed else trials


def hyperparameters(trials: pd.DataFrame, further: Sequence[str] = ()) -> list[str]:
    """The columns that hold hyperparameters: those that every sweep may have, and further ones."""
    return [name for name in dict.fromkeys([*AXES, *further]) if name in trials]


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


def unrounded(values: pd.Series[float]) -> pd.Series[float]:
    """The values, with each that is another one rounded to fewer digits replaced by that one.

    Values of a random search that happen to be close stay apart, unlike in `merged`.
    """
    distinct = np.unique(values.to_numpy(dtype=np.float64))
    distinct = distinct[(distinct > 0) & np.isfinite(distinct)]
    octaves: Array = np.log2(distinct)
    if distinct.size < 2 or (np.diff(octaves) > ROUNDING).all():
        return values
    digits = np.array([len(f"{one:.15e}".split("e")[0].rstrip("0")) - 1 for one in distinct])
    becomes: dict[float, float] = {}
    for at in np.flatnonzero(digits <= FEW_DIGITS):
        low, high = np.searchsorted(octaves, octaves[at] + np.array([-ROUNDING, ROUNDING]))
        near = [one for one in range(low, high) if digits[one] > digits[at]]
        value = float(distinct[at])
        exact = [one for one in near if float(f"{distinct[one]:.{digits[at] - 1}e}") == value]
        if exact:
            becomes[value] = float(distinct[max(exact, key=lambda one: digits[one])])
    return values.replace(becomes) if becomes else values
