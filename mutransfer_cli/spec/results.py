"""Users' own results: tables in CSV, JSON lines or Parquet as one table of canonical columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from numbers import Number
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from mutransfer_cli.errors import InputError
from mutransfer_cli.rules.plan import MULT_AXES
from mutransfer_cli.spec.tables import Table, load_table
from mutransfer_cli.strict import MAX_WIDTH, nearest, parse_number

REQUIRED = ("width", "lr", "loss")
LR_MULTS = tuple(MULT_AXES.values())
SIZES = ("depth", "head_size", "vocab", "context", "batch", "steps", "tokens")
CANONICAL = (*REQUIRED, "train_loss", "seed", "weight_decay", *LR_MULTS, *SIZES)
LOSSES = ("loss", "eval_loss", "val_loss", "train_loss")  # in order of preference
NOT_FINISHED = frozenset(
    ["failed", "crashed", "killed", "preempted", "pending", "running", "pruned", "early-stopped"]
)
EMPTY = frozenset({"", "na", "n/a", "nan", "none", "null"})
WHOLE = re.compile(r"0|-?[1-9]\d{0,17}")


Check: TypeAlias = tuple[str, Callable[["pd.Series[float]"], "pd.Series[bool]"]]
POSITIVE: Check = ("a positive, finite number", lambda x: (x > 0) & (x < np.inf))
CHECKS: dict[str, Check] = {
    "width": ("a positive whole number", lambda x: (x > 0) & (x < MAX_WIDTH) & (x % 1 == 0)),
    "lr": POSITIVE,
    "weight_decay": ("zero or a positive, finite number", lambda x: (x >= 0) & (x < np.inf)),
    **dict.fromkeys(LR_MULTS, POSITIVE),
}


def parse_columns(text: str) -> dict[str, str]:
    """Parse "width=dim,lr=base_lr" to the user's column by canonical name.

    Raises:
        InputError: an unknown name, an empty part, or a name or column given twice.
    """

    def wrong(problem: str) -> InputError:
        return InputError(f"columns: {problem}", setting="columns")

    columns: dict[str, str] = {}
    for part in text.split(","):
        name, column = (word.strip() for word in part.partition("=")[::2])
        if not name or not column:
            raise wrong(
                f"expected NAME=COLUMN between commas, found {part!r}; "
                "write for example width=dim,lr=base_lr"
            )
        if name not in CANONICAL:
            raise wrong(f"unknown name {name!r}{nearest(name, CANONICAL)}")
        if name in columns:
            raise wrong(f"{name} is given twice; name one column for it")
        if column in columns.values():
            raise wrong(f"{column!r} is given twice; a column has one meaning")
        columns[name] = column
    return columns


def read_results(
    sources: Sequence[Path | None],
    columns: Mapping[str, str],
    metric: str | None = None,
    by: str | None = None,
    keep_last: bool = False,
    optima: bool = False,
    pattern: str | None = None,
    say: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Read one row per run from all sources, in order.

    Files, databases and folders are recognised by their content (`load_table`). A column that ends
    in a canonical name after a point, such as `config.lr`, has that meaning. Rows whose status says
    that they did not finish (`failed`, `crashed`, `running`, ...) are dropped. A diverged run
    stays, with loss NaN: its status is `diverged`, or its loss is empty, NaN or infinite.

    With seeds, a row repeated exactly counts once; without seeds, repeated rows are replicates.

    Args:
        sources: files, databases and folders; None is stdin.
        columns: the user's column by canonical name; other columns are found by their names.
        metric: the user's column to take as loss.
        by: another column of the user to keep, as text.
        keep_last: keep the last of the rows with equal width, axes, seed and `by`.
        optima: a row holds the best values at a width, and no loss.
        pattern: the form of the paths to read in folders.
        say: called with each sentence about what was read.

    Returns:
        width (int64), lr (peak rate per step), loss (nats, or the user's unit), and if the tables
        have them seed (int64 when all are whole numbers, otherwise text), weight_decay,
        lr_mult.embedding, lr_mult.hidden, lr_mult.readout (floats), train_loss beside another loss,
        sizes such as depth and steps (text), and `by` under its own name.

    Raises:
        InputError: an unreadable or malformed source, a missing column, a value that its column
            cannot hold, rows that contradict each other, sizes that differ within a width, a `by`
            group without a finite loss.
    """
    if by in CANONICAL and by not in SIZES:
        raise InputError(
            f"by {by}: the fit uses this column itself; name another one", setting="by"
        )
    tables = [load_table(source, pattern) for source in sources]
    if say is not None:
        for sentence in (note for table in tables for note in table.notes):
            say(sentence)
    names = [_resolve(table, columns, metric, by, optima) for table in tables]
    if not all("train_loss" in found for found in names):
        names = [{k: v for k, v in found.items() if k != "train_loss"} for found in names]
    for table, found in zip(tables[1:], names[1:], strict=True):
        _refuse_other_columns(tables[0].where, names[0], table.where, found)
    parts = [_typed(table, found, by) for table, found in zip(tables, names, strict=True)]
    frame = pd.concat(parts, keys=range(len(parts)))
    if not optima:
        frame = _once_each(frame, [f"{table.where} {table.unit}" for table in tables], keep_last)
        _refuse_mixed_sizes(frame, by)
        if by is not None:
            _refuse_lossless_groups(frame, by)
    if "seed" in frame and frame["seed"].map(WHOLE.fullmatch).notna().all():
        frame = frame.assign(seed=frame["seed"].astype("int64"))
    return frame.reset_index(drop=True)


def _resolve(
    table: Table, columns: Mapping[str, str], metric: str | None, by: str | None, optima: bool
) -> dict[str, str]:
    """The column of this table by canonical name."""
    where, found = table.where, [str(column) for column in table.cells.columns]
    wanted = dict(columns)
    if metric is not None and wanted.setdefault("loss", metric) != metric:
        raise InputError(
            f"columns loss={wanted['loss']} and metric {metric}: name one column for the loss",
            setting="columns",
        )
    endings = {column.rpartition(".")[2]: column for column in reversed(found)}
    if "loss" not in wanted:
        if table.maximize:
            raise InputError(
                f"{where}: {table.result} was maximized; name a column to be minimized",
                remedy="metric",
            )
        known = [endings[name] for name in LOSSES if name in endings]
        wanted["loss"] = table.result or next(iter(known), "loss")
    required = ("width",) if optima else REQUIRED
    wanted |= {
        name: name if name in found else endings.get(name, name)
        for name in CANONICAL
        if name not in wanted and (name in found or name in endings or name in required)
    }
    if optima or wanted.get("train_loss") == wanted["loss"]:
        wanted.pop("train_loss", None)
    if optima:
        del wanted["loss"]
    names = {name: wanted[name] for name in CANONICAL if name in wanted}
    for name, column in names.items():
        if column not in found:
            meant = "" if column == name else f" for {name}"
            is_metric = name == "loss" and metric
            how = "name yours" if is_metric else f"name yours by {name}=COLUMN"
            raise InputError(
                f"{where}: has no column {column!r}{meant}; {how}{nearest(column, found)}",
                remedy="metric" if is_metric else "columns",
            )
    if by is not None and by not in found:
        raise InputError(
            f"{where}: has no column {by!r} to group by{nearest(by, found)}", setting="by"
        )
    for column in (*names.values(), "status", *([] if by is None else [by])):
        if found.count(column) > 1:
            raise InputError(f"{where}: has the column {column!r} twice; rename one of them")
    return names


def _refuse_other_columns(
    first: str, there: Mapping[str, str], where: str, here: Mapping[str, str]
) -> None:
    for name in CANONICAL:
        old, new = there.get(name), here.get(name)
        if old is None and new is not None:
            first, where, old, new = where, first, new, old
        if new is None and old is not None:
            raise InputError(
                f"{where}: has no column {old!r}, which {first} has; give all sources the same "
                "columns, or read them separately"
            )
        if old != new:
            raise InputError(
                f"{where}: {name} would be {new!r}, but {old!r} in {first}; name the column to "
                f"take by {name}=COLUMN",
                remedy="columns",
            )


def _typed(table: Table, names: Mapping[str, str], by: str | None) -> pd.DataFrame:
    """The needed columns under their canonical names, checked, without failed runs."""
    cells = table.cells
    diverged = pd.Series(False, index=cells.index)
    if "status" in cells:
        status = cells["status"].astype(str).str.strip().str.lower()
        ran = ~status.isin(NOT_FINISHED)
        cells, diverged = cells[ran], (status == "diverged")[ran]
        if cells.empty:
            raise InputError(f"{table.where}: no row has a status of a run that finished")
    table = Table(table.where, table.unit, cells)
    typed: dict[str, pd.Series[Any]] = {}
    for name, column in names.items():
        if name == "seed" or name in SIZES:
            typed[name] = _texts(table, column)
        elif name in ("loss", "train_loss"):
            loss = cells[column].astype(object)
            loss[diverged] = None
            number = _numbers(table, column, loss)
            typed[name] = number.where(np.isfinite(number))
        else:
            number = _numbers(table, column, cells[column])
            _refuse_outside(table, name, column, number)
            typed[name] = number.astype("int64") if name == "width" else number
    if by is not None:
        typed[by] = _texts(table, by)
    return pd.DataFrame(typed)


def _texts(table: Table, column: str) -> pd.Series[Any]:
    """A column as stripped text; a missing or empty value is refused."""
    cells = table.cells[column]
    texts = cells.astype(str).str.strip()
    missing = (cells.isna() | (texts == "")).to_numpy()
    if missing.any():
        place = table.place(int(missing.argmax()))
        raise InputError(f"{place}: {column} is empty; every row needs one")
    return texts


def _numbers(table: Table, column: str, cells: pd.Series[Any]) -> pd.Series[Any]:
    """A column as floats; NaN for an empty cell."""
    numbers = []
    for position, value in enumerate(cells.astype(object).tolist()):
        try:
            numbers.append(_number(value))
        except (ValueError, OverflowError) as error:
            raise InputError(
                f"{table.place(position)}: {column}: {error}; correct that value"
            ) from error
    return pd.Series(numbers, index=cells.index, dtype=float)


def _number(value: object) -> float:
    if isinstance(value, str):
        if value.strip().lower() in EMPTY:
            return np.nan
        if "_" in value:
            raise ValueError(f"expected a number such as 0.001, 3e-4 or 2^-9, found {value!r}")
    elif value is None or value is pd.NA or value is pd.NaT:
        return np.nan
    elif not isinstance(value, Number):
        raise ValueError(f"expected a number, found {value!r}")
    return float(parse_number(value))


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


def _once_each(frame: pd.DataFrame, places: Sequence[str], keep_last: bool) -> pd.DataFrame:
    """Keep each run once; rows that differ only in loss are refused unless the last is to be kept.

    Args:
        frame: indexed by (source, line).
        places: what comes before the line in a message, per source.
    """
    key = [name for name in frame.columns if name not in ("loss", "train_loss")]
    if keep_last:
        return frame.drop_duplicates(key, keep="last")
    if "seed" not in frame:
        return frame
    frame = frame.drop_duplicates([*key, "loss"])
    again = frame.duplicated(key).to_numpy()
    if again.any():
        second = int(again.argmax())
        same = (frame[key] == frame[key].iloc[second]).all(axis=1).to_numpy()
        rows = [int(same.argmax()), second]
        both = " and ".join(f"{places[source]} {line}" for source, line in frame.index[rows])
        values = ", ".join(f"{name} {frame[name].tolist()[second]}" for name in key)
        losses = " and ".join(str(frame["loss"].tolist()[row]) for row in rows)
        raise InputError(
            f"{both}: the same run ({values}) with losses {losses}; remove one, or keep the last",
            remedy="keep",
        )
    return frame


def _refuse_mixed_sizes(frame: pd.DataFrame, by: str | None) -> None:
    """Refuse runs of one width that differ in depth, steps or another size."""
    ran = frame[frame["loss"].notna()]
    for size in SIZES:
        if size not in ran or size == by:
            continue
        cell = ["width"] if by is None else ["width", by]
        values = ran.groupby(cell)[size].unique()
        mixed = values[values.map(len) > 1]
        if len(mixed):
            width = mixed.index[0] if by is None else mixed.index[0][0]
            found = " and ".join(sorted(mixed.iloc[0])[:3])
            raise InputError(
                f"{size} differs at width {width} ({found}): runs of different {size} do not "
                f"belong to one sweep; fit them grouped by {size}, or give the runs of one",
                remedy="by",
            )


def _refuse_lossless_groups(frame: pd.DataFrame, by: str) -> None:
    finite = frame["loss"].notna().groupby(frame[by], sort=False).any()
    if not finite.all():
        group = finite.index[~finite.to_numpy()].tolist()[0]
        raise InputError(
            f"by {by}: no run of {group!r} has a finite loss; remove that group or add runs to it",
            setting="by",
        )
