"""Values as people write them in tables: numbers, empty cells, sizes, and what orders rows."""

from __future__ import annotations

import re
from numbers import Number
from typing import Any

import numpy as np
import pandas as pd

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.tables import Table
from mutransfer_cli.strict import parse_number

EMPTY = frozenset({"", "na", "n/a", "nan", "none", "null", "<na>", "nat"})
JITTER = 1e-3  # relative; sizes that differ by less are one, such as counts of tokens
DASHES = frozenset({"-", "--", "\u2013", "\u2014", "\u2212", "?", "."})
PLAIN = re.compile(r"-?\d+(?:\.\d*)?(?:e-?\d+)?")
GROUPED = re.compile(r"[+-]?\d{1,3}(_\d{3})+(\.\d+)?")
COMMA = re.compile(r"\s*([+-]?\d*),(\d+(?:[eE][+-]?\d+)?)\s*")
WITH_MORE = re.compile(r"\s*([+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*([^\d\s.].*)")


def words(text: str) -> frozenset[str]:
    """The words of a text, as a set."""
    return frozenset(text.split())


def is_empty(value: object) -> bool:
    """Whether a cell holds no value: missing, blank, or a word for that such as NaN."""
    if isinstance(value, str):
        return value.strip().lower() in EMPTY
    return value is None or value is pd.NA or value is pd.NaT or value != value


def all_empty(table: Table, column: str) -> bool:
    """Whether a column holds no value; False where two columns have that name."""
    cells = table.cells[column]
    return isinstance(cells, pd.Series) and all(is_empty(cell) for cell in cells.tolist())


def is_blank(value: object) -> bool:
    """Whether nothing was recorded in a cell; the text NaN is a record."""
    return is_empty(value) and (not isinstance(value, str) or not value.strip())


def number(value: object) -> float:
    """The number that a cell holds; NaN for an empty one.

    Raises:
        ValueError: it holds something else.
    """
    if isinstance(value, str):
        text = value.strip()
        if text.lower() in EMPTY:
            return np.nan
        if "_" in text:
            if not GROUPED.fullmatch(text):
                raise ValueError(_expected(value))
            text = text.replace("_", "")
        try:
            return float(parse_number(text))
        except ValueError as error:
            raise ValueError(_expected(value)) from error
    if value is None or value is pd.NA or value is pd.NaT:
        return np.nan
    if not isinstance(value, Number):
        raise ValueError(f"expected a number, found {value!r}")
    return float(parse_number(value))


def _expected(value: str) -> str:
    """Say what was expected in place of a text, and what may have been meant."""
    hint = ""
    if value.strip() in DASHES:
        hint = " (where there is no value, leave the cell empty)"
    elif comma := COMMA.fullmatch(value):
        hint = f" (a decimal comma? write {comma[1] or 0}.{comma[2]})"
    elif more := WITH_MORE.fullmatch(value):
        hint = f" (write the number alone: {more[1]})"
    return f"expected a number such as 0.001, 3e-4 or 2^-9, found {value!r}{hint}"


def numbers(table: Table, column: str, cells: pd.Series[Any]) -> pd.Series[float]:
    """A column as floats; NaN for an empty cell.

    Raises:
        InputError: a cell holds something else.
    """
    known: dict[str, float] = {}
    found = []
    for position, value in enumerate(cells.astype(object).tolist()):
        try:
            if isinstance(value, str):
                if value not in known:
                    known[value] = _fast(value)
                found.append(known[value])
            else:
                found.append(number(value))
        except (ValueError, OverflowError) as error:
            raise InputError(
                f"{table.place(position)}: {column}: {error}; correct that value"
            ) from error
    return pd.Series(found, index=cells.index, dtype=float)


def _fast(value: str) -> float:
    """As `number`, but quick for the usual forms."""
    return float(value) if PLAIN.fullmatch(value) else number(value)


def plain(cells: pd.Series[Any]) -> pd.Series[Any]:
    """Cells as texts in which equal numbers are equal texts (1e4, 10_000); None for empty ones."""
    known: dict[str, str | None] = {}

    def text(value: object) -> str | None:
        written = value.strip() if isinstance(value, str) else str(value)
        if written not in known:
            known[written] = None if is_empty(value) else _normal(written)
        return known[written]

    return pd.Series([text(value) for value in cells.tolist()], index=cells.index, dtype=object)


def _normal(written: str) -> str:
    try:
        return f"{number(written):.12g}"
    except (ValueError, OverflowError):
        return written


def as_numbers(cells: pd.Series[Any]) -> pd.Series[float]:
    """Cells as floats; NaN for whatever is no number."""
    known: dict[str, float] = {}

    def one(value: object) -> float:
        written = str(value)
        if written not in known:
            try:
                known[written] = number(value if isinstance(value, str) else written)
            except (ValueError, OverflowError):
                known[written] = np.nan
        return known[written]

    return pd.Series([one(value) for value in cells.tolist()], index=cells.index, dtype=float)


def settled(cells: pd.Series[Any]) -> pd.Series[Any]:
    """Sizes as texts that are equal where the sizes are: to 0.1%; None for empty cells."""
    texts = plain(cells)
    times = texts.value_counts()
    found = as_numbers(pd.Series(times.index, dtype=object)).to_numpy()
    order = np.argsort(found)
    becomes: dict[str, str] = {}
    start, cluster = np.nan, list[str]()
    for position in order:
        value, text = found[position], str(times.index[position])
        if not (np.isfinite(value) and abs(value - start) <= JITTER * abs(start)):
            start, cluster = value, []
        cluster.append(text)
        common = max(cluster, key=lambda one: (times[one], -len(one)))
        becomes |= dict.fromkeys(cluster, common)
    found_texts = [None if text is None else becomes[text] for text in texts.tolist()]
    return pd.Series(found_texts, index=cells.index, dtype=object)


def ordered(table: Table, column: str) -> pd.Series[float]:
    """A column that says which row is later, as floats: numbers, or dates with times.

    Raises:
        InputError: a cell is empty or neither.
    """
    cells = table.cells[column]
    found = as_numbers(cells)
    if found.isna().any():
        texts = cells.map(lambda cell: None if is_empty(cell) else str(cell).strip())
        times = pd.to_datetime(texts, errors="coerce", utc=True, format="ISO8601")
        if times.isna().any():
            position = int(times.isna().to_numpy().argmax())
            raise InputError(
                f"{table.place(position)}: {column}: expected a number or a time such as "
                f"2026-01-31 12:00:00 to order rows by, found {cells.tolist()[position]!r}; "
                "correct that value"
            )
        epoch = pd.Timestamp("1970-01-01", tz="UTC")
        found = (times - epoch).dt.total_seconds().astype(float)
    return found
