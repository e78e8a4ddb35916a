"""Raw tables: rows as their writer left them, under flat names."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mutransfer_cli.errors import InputError

MOST_LEVELS = 50  # of nested keys


@dataclass(frozen=True)
class Table:
    """A table as written."""

    where: str
    """Path, or `stdin`."""
    unit: str
    """`line`, `row` or `run`, for messages."""
    cells: pd.DataFrame
    """All columns under the user's names; the index holds lines or rows, from 1, or runs."""
    result: str | None = None
    """The column that the system itself calls the run's result, such as an Optuna value."""
    maximize: bool = False
    """Whether a higher result is better."""
    notes: tuple[str, ...] = ()
    """Sentences for the user: which runs were read, and which were not."""

    def place(self, position: int) -> str:
        """Name the line or row at a position, from 0, in messages."""
        return f"{self.where} {self.unit} {self.cells.index[position]}"


def flat(values: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings: {"optim": {"lr": 1}} is {"optim.lr": 1}; lists become JSON texts.

    Raises:
        ValueError: more than 50 levels.
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            if prefix.count(".") > MOST_LEVELS:
                raise ValueError(f"more than {MOST_LEVELS} levels of keys")
            found |= flat(value, f"{name}.")
        elif isinstance(value, (dict, list, tuple)):  # faster than a union
            found[name] = json.dumps(value, default=str)
        else:
            found[name] = value
    return found


def rows_table(where: str, unit: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """A table of flat rows, numbered from 1."""
    return Table(where, unit, frame_of(rows, range(1, len(rows) + 1)))


def frame_of(rows: Sequence[Mapping[str, Any]], places: Iterable[Hashable]) -> pd.DataFrame:
    """Rows as a frame of objects; cells that a row lacks are None."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = {name: [row.get(name) for row in rows] for name in names}
    return pd.DataFrame(cells, index=list(places), columns=names, dtype=object)


def runs_table(where: str, runs: Mapping[str, Mapping[str, Any]], **about: Any) -> Table:
    """A table with one row per run, by name.

    Args:
        runs: flat values by the run's name, which becomes the column `run`.
        about: `result`, `maximize` and `notes` of the table.

    Raises:
        InputError: there is no run.
    """
    if not runs:
        raise InputError(f"{where}: holds no runs; give the place where they were logged")
    rows = [{"run": name, **values} for name, values in runs.items()]
    return Table(where, "run", frame_of(rows, runs), **about)


def last_of_each(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The last value of every key that is neither None nor an empty text, in order of keys."""
    found: dict[str, Any] = {}
    for row in rows:
        found |= {name: value for name, value in row.items() if value is not None and value != ""}
    return found
