"""Rows of one run: logs of many steps, further attempts, and rows that are there twice."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.rounding import hyperparameters, unrounded

NOT_IN_A_RUN = ("loss", "train_loss")


def cells_of(frame: pd.DataFrame, names: Sequence[str]) -> pd.Series[int]:
    """Number the combinations of some columns; a rate and that rate rounded are one."""
    keys = frame[list(names)]
    keys = keys.assign(**{name: unrounded(keys[name]) for name in hyperparameters(keys)})
    return keys.groupby(list(names), sort=False, dropna=False).ngroup()


def latest(
    run: pd.Series[int], order: pd.Series[float], recorded: pd.Series[bool]
) -> pd.Series[bool]:
    """Which rows are the last of their run among those that recorded a loss.

    Rows that are equally late stay together; a run that never recorded a loss keeps its last row.

    Args:
        run: number of the run of each row.
        order: greater where a row is later.
        recorded: whether anything stands in the cell of the loss.
    """
    ever = recorded.groupby(run).transform("any")
    counts = recorded | ~ever
    last = order.where(counts).groupby(run).transform("max")
    return counts & (order == last)


def refuse_ties(
    frame: pd.DataFrame, key: Sequence[str], column: str, places: Sequence[str]
) -> None:
    """Refuse rows of one run that are equally late and have different losses."""
    run = cells_of(frame, key)
    rest = frame.assign(**{"": run}).drop_duplicates(["", "loss"])
    again = rest.duplicated("").to_numpy()
    if again.any():
        both, what, losses = _pair(rest, rest[""], int(again.argmax()), key, places)
        raise InputError(
            f"{both}: the same run ({what}) with losses {losses} and the same {column}; remove one"
        )


def without_exact_repeats(frame: pd.DataFrame, key: Sequence[str]) -> pd.DataFrame:
    """The rows without those that repeat a run and its loss."""
    again = frame.assign(**{"": cells_of(frame, key)}).duplicated(["", "loss"])
    return frame[~again.to_numpy()]


def refuse_contradictions(frame: pd.DataFrame, key: Sequence[str], places: Sequence[str]) -> None:
    """Refuse a run that is there with two losses.

    Args:
        frame: indexed by (source, line).
        key: columns that tell runs apart.
        places: what comes before the line in a message, per source.
    """
    run = cells_of(frame, key)
    again = run.duplicated().to_numpy()
    if again.any():
        both, what, losses = _pair(frame, run, int(again.argmax()), key, places)
        raise InputError(
            f"{both}: the same run ({what}) with losses {losses}; remove one, or keep the last by "
            "a column that says which is later",
            remedy="keep last:COLUMN",
        )


def _pair(
    frame: pd.DataFrame,
    run: pd.Series[int],
    second: int,
    key: Sequence[str],
    places: Sequence[str],
) -> tuple[str, str, str]:
    """Two rows of a run: where they are, which run it is, and their losses."""
    same = (run == run.iloc[second]).to_numpy()
    rows = [int(same.argmax()), second]
    both = " and ".join(f"{places[source]} {line}" for source, line in frame.index[rows])
    what = ", ".join(f"{name} {frame[name].tolist()[second]}" for name in key)
    return both, what, " and ".join(str(frame["loss"].tolist()[row]) for row in rows)
