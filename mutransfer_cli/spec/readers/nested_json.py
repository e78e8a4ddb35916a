"""JSON: a list of objects, an object of columns, one object, or an object per line."""

from __future__ import annotations

import io
import json
from typing import Any

from mutransfer_cli.errors import InputError
from mutransfer_cli.explain import shown
from mutransfer_cli.spec.readers.table import Table, flat, frame_of, rows_table


def read_json(text: str, where: str) -> Table:
    """Read JSON in any of its usual shapes, with keys of nested objects joined by points.

    A whole document is an array of objects, an object with one list of objects, an object of
    columns, an object of objects (one row each), or a single row. Anything else is read as JSON
    lines.

    Raises:
        InputError: it is none of these.
    """
    try:
        document = json.loads(text)
    except RecursionError as error:
        raise InputError(f"{where}: not JSON ({error}); write flat objects") from error
    except json.JSONDecodeError as error:
        if text.lstrip().startswith("["):
            raise InputError(
                f"{where} line {error.lineno}: not JSON ({error.msg}); correct the list there"
            ) from error
        return _lines(text, where)
    if isinstance(document, list):
        return rows_table(where, "row", _rows(document, where))
    return _of_object(document, where)


def _rows(items: list[Any], where: str) -> list[dict[str, Any]]:
    rows = []
    for number, item in enumerate(items, 1):
        if not isinstance(item, dict):
            raise InputError(
                f"{where} row {number}: expected a JSON object, found {shown(item)}; "
                "write one object per run"
            )
        rows.append(_flat(item, f"{where} row {number}"))
    return rows


def _flat(item: dict[str, Any], place: str) -> dict[str, Any]:
    try:
        return flat(item)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: {error}; write flat objects") from error


def _of_object(document: dict[str, Any], where: str) -> Table:
    values = list(document.values())
    lists = {key: value for key, value in document.items() if _holds_objects(value)}
    if len(lists) == 1:
        return rows_table(where, "row", _rows(next(iter(lists.values())), where))
    if isinstance(document.get("columns"), list) and isinstance(document.get("data"), list):
        names, data = document["columns"], document["data"]
        if all(isinstance(row, list) and len(row) == len(names) for row in data):
            rows = [dict(zip(map(str, names), row, strict=True)) for row in data]
            return rows_table(where, "row", rows)
    if values and all(isinstance(value, list) for value in values):
        lengths = {key: len(value) for key, value in document.items()}
        if len(set(lengths.values())) > 1:
            shown = ", ".join(f"{key} {length}" for key, length in list(lengths.items())[:3])
            raise InputError(f"{where}: columns differ in length ({shown}); write one row per run")
        columns = [dict(zip(document, row, strict=True)) for row in zip(*values, strict=True)]
        return rows_table(where, "row", columns)
    if len(values) > 1 and all(isinstance(value, dict) for value in values):
        forms = {tuple(value) for value in values}
        if len(forms) == 1:  # a column or a row for each key
            return _of_mappings(document, where)
    return rows_table(where, "line", [_flat(document, where)])


def _of_mappings(document: dict[str, Any], where: str) -> Table:
    """Columns by row number, as pandas writes them, or rows by name."""
    named = {key: _flat(value, f"{where} run {key}") for key, value in document.items()}
    places = list(next(iter(named.values())))
    if all(place.isdigit() for place in places):
        rows = [{name: named[name][place] for name in named} for place in places]
        return rows_table(where, "row", rows)
    rows = [{"run": key, **row} for key, row in named.items()]
    return Table(where, "run", frame_of(rows, named))


def _holds_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _lines(text: str, where: str) -> Table:
    rows, lines = [], []
    for number, line in enumerate(io.StringIO(text, newline=""), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{where} line {number}: not JSON ({error}); write one object per line, or one "
                "list of objects"
            ) from error
        if not isinstance(row, dict):
            raise InputError(
                f"{where} line {number}: expected a JSON object, found {shown(row)}; "
                "write one object per line"
            )
        rows.append(_flat(row, f"{where} line {number}"))
        lines.append(number)
    return Table(where, "line", frame_of(rows, lines))
