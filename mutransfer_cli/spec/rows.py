"""The rows of one table under canonical names, with every value checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.columns import LR_MULTS, SIZES, Names, is_logarithm, power_of
from mutransfer_cli.spec.status import statuses
from mutransfer_cli.spec.tables import Table
from mutransfer_cli.spec.values import is_blank, numbers, ordered, plain
from mutransfer_cli.spec.where import rows_where
from mutransfer_cli.strict import MAX_WIDTH, nearest

ROW_ORDER = "row"  # the order of the rows in a table, where it has no column of that name

Check: TypeAlias = tuple[str, Callable[["pd.Series[float]"], "pd.Series[bool]"]]
POSITIVE: Check = ("a positive, finite number", lambda x: (x > 0) & (x < np.inf))
CHECKS: dict[str, Check] = {
    "width": ("a positive whole number", lambda x: (x > 0) & (x < MAX_WIDTH) & (x % 1 == 0)),
    "lr": POSITIVE,
    "weight_decay": ("zero or a positive, finite number", lambda x: (x >= 0) & (x < np.inf)),
    **dict.fromkeys(LR_MULTS, POSITIVE),
}


@dataclass(frozen=True)
class Choices:
    """Everything that the user says about a table."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """The user's column by canonical name; other columns are found by their names."""
    metric: str | None = None
    """The user's column to take as loss."""
    maximize: bool = False
    """Higher values of the metric are better."""
    by: tuple[str, ...] = ()
    """Columns whose combinations are kept as groups."""
    where: str | None = None
    """Condition on the rows to take."""
    last: str | None = None
    """Column of steps: the last row of each run is taken."""
    keep: str | None = None
    """Column that says which of several attempts at a run is the last, or `row`."""
    sizes: tuple[str, ...] = ()
    """Further columns that hold sizes."""
    optima: bool = False
    """A row holds the best values at a width, and no loss."""
    path_pattern: str | None = None
    """In folders: where the runs are, and what their paths say."""

    @property
    def group(self) -> str | None:
        """The column of the groups."""
        return ", ".join(self.by) or None


@dataclass(frozen=True)
class Part:
    """A table, read."""

    frame: pd.DataFrame
    """What the fit uses, under canonical names; the index holds lines or rows."""
    others: pd.DataFrame
    """The other columns, under the user's names."""
    recorded: pd.Series[bool]
    """Whether anything stands in the cell of the loss."""
    orders: dict[str, pd.Series[float]]
    """Columns that say which row is later, by the user's name."""
    left_out: Counter[str]
    """Number of rows left out, by reason."""


def read_part(table: Table, names: Names, choices: Choices) -> Part:
    """The rows of a table that hold results.

    Raises:
        InputError: a missing column, or a value that its column cannot hold.
    """
    left_out: Counter[str] = Counter()
    cells = table.cells
    if choices.where is not None:
        mask = rows_where(choices.where, cells, names.columns, table.where)
        left_out["not in where"] += int((~mask).sum())
        cells = cells[mask]
    diverged = np.zeros(len(cells), dtype=bool)
    if "status" in names.columns:
        ran, diverged, by_word = statuses(
            Table(table.where, table.unit, cells), names.columns["status"]
        )
        left_out.update(by_word)
        cells, diverged = cells[ran], diverged[ran]
    table = Table(table.where, table.unit, cells)
    there = {str(column) for column in cells.columns}
    known: dict[str, pd.Series[float]] = {}
    for name in ("width", "lr"):
        if name not in names.columns:
            continue
        column, *_ = power_of(names.columns[name], there)
        known[name] = numbers(table, column, cells[column])
    complete = np.ones(len(cells), dtype=bool)
    for name in known if not choices.optima else []:
        there_is = known[name].notna().to_numpy()
        left_out[f"without {name}"] += int((complete & ~there_is).sum())
        complete &= there_is
        if not there_is.any():
            raise InputError(f"{table.where}: {names.columns[name]} is empty in every row")
    table = Table(table.where, table.unit, cells[complete])
    if not complete.any():
        raise InputError(f"{table.where}: no row has both a width and a learning rate")
    frame, recorded = _typed(table, names, diverged[complete])
    by = [_group_column(table, names, one) for one in choices.by]
    if choices.group is not None:
        texts = [_texts(table, column) for column in by]
        sizes = {*names.sizes.values(), *(names.columns.get(size) for size in SIZES)}
        texts = [
            plain(text) if column in sizes else text for column, text in zip(by, texts, strict=True)
        ]
        joined = texts[0].tolist()
        for more in texts[1:]:
            joined = [f"{one}, {other}" for one, other in zip(joined, more.tolist(), strict=True)]
        frame[choices.group] = joined
    used = {power_of(column, there)[0] for column in names.columns.values()}
    used |= {*names.sizes.values(), *by}
    counts = table.cells.columns.value_counts()
    free = [one for one in table.cells.columns if str(one) not in used and counts[one] == 1]
    others = table.cells[free].set_axis([str(one) for one in free], axis=1)
    orders = {one: _order(table, one) for one in (choices.last, choices.keep) if one is not None}
    return Part(frame, others, recorded, orders, +left_out)


def _group_column(table: Table, names: Names, one: str) -> str:
    there = [str(column) for column in table.cells.columns]
    column = one if one in there else names.columns.get(one)
    if column is None:
        raise InputError(
            f"{table.where}: has no column {one!r} to group by{nearest(one, there)}", setting="by"
        )
    if there.count(column) > 1:
        raise InputError(f"{table.where}: has the column {column!r} twice; rename one of them")
    return column


def _order(table: Table, column: str) -> pd.Series[float]:
    there = [str(one) for one in table.cells.columns]
    if column in there:
        return ordered(table, column)
    if column == ROW_ORDER:
        return pd.Series(np.arange(len(table.cells), dtype=float), index=table.cells.index)
    raise InputError(
        f"{table.where}: has no column {column!r} that says which row is the last"
        f"{nearest(column, there)}"
    )


def _typed(
    table: Table, names: Names, diverged: npt.NDArray[np.bool_]
) -> tuple[pd.DataFrame, pd.Series[bool]]:
    """The needed columns under their canonical names, checked, and which rows recorded a loss."""
    cells, there = table.cells, {str(column) for column in table.cells.columns}
    recorded = pd.Series(True, index=cells.index)
    typed: dict[str, pd.Series[Any]] = {}
    for name, text in names.columns.items():
        column, base, sign = power_of(text, there)
        if name == "status":
            continue
        if name == "seed":
            typed[name] = _texts(table, column)
        elif name in SIZES:
            typed[name] = cells[column].astype(object)
        elif name in ("loss", "train_loss"):
            raw = cells[column].astype(object)
            raw[diverged] = None
            found = numbers(table, column, raw)
            typed[name] = found.where(np.isfinite(found))
            if name == "loss" and names.loss is not None:
                typed[name] = names.loss.of(table, found)
                if found.isna().any():
                    recorded = ~raw.map(is_blank).astype(bool) | diverged
        else:
            number = numbers(table, column, cells[column])
            if base is None and name == "lr":
                _refuse_logarithms(table, column, number)
            number = number if base is None else base ** (sign * number)
            _refuse_outside(table, name, column, number)
            typed[name] = number.astype("int64") if name == "width" else number
    for name, column in names.sizes.items():
        typed[name] = cells[column].astype(object)
    return pd.DataFrame(typed, index=cells.index), recorded


def _texts(table: Table, column: str) -> pd.Series[Any]:
    """A column as stripped text; a missing or empty value is refused."""
    cells = table.cells[column]
    texts = cells.astype(str).str.strip()
    missing = (cells.isna() | (texts == "")).to_numpy()
    if missing.any():
        place = table.place(int(missing.argmax()))
        raise InputError(f"{place}: {column} is empty; every row needs one")
    return texts


def _refuse_outside(table: Table, name: str, column: str, number: pd.Series[Any]) -> None:
    expected, allowed = CHECKS[name]
    wrong = ~allowed(number).to_numpy()
    if wrong.any():
        position = int(wrong.argmax())
        value = table.cells[column].tolist()[position]
        raise InputError(
            f"{table.place(position)}: {column}: expected {expected}, found {value!r}; "
            "correct that value"
        )


def _refuse_logarithms(table: Table, column: str, number: pd.Series[float]) -> None:
    """Refuse rates that are logarithms by their name, their sign, or their even spacing."""
    values = np.unique(number.to_numpy())
    if not np.isfinite(values).all():
        return
    gaps = np.diff(values)
    even = len(values) >= 4 and bool(np.ptp(gaps) <= 1e-6 * gaps.max())
    high = bool(values[-1] >= 3) and bool((values * 4 % 1 == 0).all())
    negative = bool(values[-1] < 0)
    if not (is_logarithm(column) or negative or (even and high)):
        return
    found = table.cells[column].tolist()[0]
    sign = "" if negative else "-"
    raise InputError(
        f"{table.place(0)}: {column}: expected a learning rate, found {found!r}, which looks like "
        f"a logarithm; write the rate, such as 2^{sign}{str(found).strip()}, or name the base",
        remedy=f"columns lr=2^{sign}{column}",
    )
