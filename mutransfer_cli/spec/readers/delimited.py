"""CSV and its relatives: text with a header line and one row per line."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterator
from typing import Protocol

import pandas as pd

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.readers.table import Table

DELIMITERS = ",\t;|"
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
SURE_COMMA = re.compile(r"[+-]?(0\d*,\d+|\d+,(\d{1,2}|\d{4,}))([eE][+-]?\d+)?")  # no thousands
DECIMAL_POINT = re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?")
WHOLE = re.compile(r"[+-]?\d+([eE][+-]?\d+)?")


def read_delimited(text: str, where: str) -> Table:
    """Read a header line and rows with comma, tab, semicolon, bar or blanks between fields.

    Lines before the header that begin with # are comments; a header may be the last of them. The
    line `sep=;` of spreadsheets names the delimiter. Decimal commas are read as points where
    another character separates the fields and no decimal point is there.

    Raises:
        InputError: rows that do not fit the header, or broken quotes.
    """
    skipped, commented, named = _above(text)
    delimiter = named or _delimiter(text, skipped, fewest=2 if commented is None else 1)
    rows, lines = _rows(text, where, skipped, delimiter)
    if commented is not None and rows and _is_data(rows[0]):
        header = _fields(commented, delimiter)
        if len(header) == len(rows[0]):
            rows, lines = [header, *rows], [skipped, *lines]
    header = [name.strip() for name in rows[0]] if rows else []
    empty = _empty_columns(header, rows)
    if empty:
        rows = [[cell for at, cell in enumerate(row) if at not in empty] for row in rows]
        header = [name for at, name in enumerate(header) if at not in empty]
    cells = pd.DataFrame(rows[1:], index=lines[1:], columns=header, dtype=object)
    notes: tuple[str, ...] = ()
    once = len(set(header)) == len(header)  # a name that is there twice is refused when it is used
    if delimiter != "," and once and _has_decimal_commas(cells):
        cells, notes = _with_points(cells), (f"{where}: decimal commas are read as points",)
    return Table(where, "line", cells, notes=notes)


def _above(text: str) -> tuple[int, str | None, str | None]:
    """Lines above the header: their number, the last comment, and a named delimiter."""
    skipped, commented, named = 0, None, None
    for line in io.StringIO(text, newline=""):
        bare = line.strip()
        if bare.startswith("#"):
            commented = bare.lstrip("#").strip() or commented
        elif skipped == 0 and re.fullmatch(r'"?sep=(.)"?', bare):
            named = bare.strip('"')[4]
        elif bare:
            break
        skipped += 1
    return skipped, commented, named


def _lines_from(text: str, skipped: int) -> Iterator[str]:
    return itertools.islice(io.StringIO(text, newline=""), skipped, None)


def _rows(text: str, where: str, skipped: int, delimiter: str) -> tuple[list[list[str]], list[int]]:
    """The rows that are not empty, with their line numbers."""
    rows: list[list[str]] = []
    lines: list[int] = []
    line = skipped + 1
    try:
        reader = _reader(_lines_from(text, skipped), delimiter)
        for row in reader:
            if "".join(row).strip():
                rows.append(row)
                lines.append(line)
                if len(row) != len(rows[0]):
                    raise _misfit(where, line, row, rows[0], lines[0])
            line = skipped + reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{where} line {line}: not CSV ({error}); correct that line") from error
    return rows, lines


def _misfit(where: str, line: int, row: list[str], header: list[str], first: int) -> InputError:
    if len(header) == 1 < len(row):
        return InputError(
            f"{where} line {line}: has {len(row)} fields where line {first} has 1; remove the "
            "lines above the header, or begin them with #"
        )
    return InputError(
        f"{where} line {line}: has {len(row)} fields where the header has {len(header)}; quote "
        "fields that hold the delimiter"
    )


class _Blanks:
    """Fields between blanks, with the interface of a csv.reader."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines, self.line_num = lines, 0

    def __iter__(self) -> Iterator[list[str]]:
        for line in self._lines:
            self.line_num += 1
            yield line.split()


class _Reader(Protocol):
    line_num: int

    def __iter__(self) -> Iterator[list[str]]: ...


def _reader(lines: Iterator[str], delimiter: str) -> _Reader:
    if delimiter == " ":
        return _Blanks(lines)
    return csv.reader(lines, delimiter=delimiter, strict=True)


def _fields(line: str, delimiter: str) -> list[str]:
    return line.split() if delimiter == " " else next(csv.reader([line], delimiter=delimiter))


def _delimiter(text: str, skipped: int, fewest: int) -> str:
    """The delimiter that splits the header into the most fields; blanks where none does.

    Args:
        fewest: lines that must have equally many fields for blanks to be believed.
    """

    def fields(delimiter: str) -> int:
        reader = csv.reader(_lines_from(text, skipped), delimiter=delimiter)
        return len(next((row for row in reader if "".join(row).strip()), []))

    best = max(DELIMITERS, key=fields)
    if fields(best) > 1:
        return best
    counts = [len(line.split()) for line in _lines_from(text, skipped) if line.strip()]
    return " " if len(counts) >= fewest and counts[0] > 1 and len(set(counts)) == 1 else best


def _is_data(row: list[str]) -> bool:
    """Whether every field is a number, so that the row cannot be a header."""

    def is_number(cell: str) -> bool:
        try:
            float(cell.replace(",", "."))
        except ValueError:
            return False
        return True

    return all(is_number(cell) for cell in row)


def _empty_columns(header: list[str], rows: list[list[str]]) -> set[int]:
    """Columns without a name and without a value, as delimiters at the ends of lines make them."""
    nameless = [at for at, name in enumerate(header) if not name]
    return {at for at in nameless if not any(row[at].strip() for row in rows[1:])}


def _has_decimal_commas(cells: pd.DataFrame) -> bool:
    """Whether commas can be nothing but decimal ones somewhere, and no decimal point is there."""
    texts = {cell.strip() for name in cells for cell in cells[name]}
    return any(map(SURE_COMMA.fullmatch, texts)) and not any(map(DECIMAL_POINT.fullmatch, texts))


def _with_points(cells: pd.DataFrame) -> pd.DataFrame:
    """Points for decimal commas in columns that hold numbers only."""
    changed = {}
    for name in cells:
        texts = [cell.strip() for cell in cells[name]]
        number = [DECIMAL_COMMA.fullmatch(t) or WHOLE.fullmatch(t) or not t for t in texts]
        if all(number):
            changed[name] = [text.replace(",", ".") for text in texts]
    return cells.assign(**{str(name): values for name, values in changed.items()})
