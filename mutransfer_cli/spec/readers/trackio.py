"""Trackio projects: an SQLite database each.

Trackio defines no result of a run: every step that was logged is a row, with its step. It keeps no
state of a run either.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.readers.table import Table, flat, frame_of

SPECIAL = {"Infinity": float("inf"), "-Infinity": float("-inf"), "NaN": float("nan")}


def read_database(database: sqlite3.Connection, where: str) -> Table:
    """Read every step of every run of a project.

    Raises:
        InputError: there is no run, or a value is not JSON.
        sqlite3.Error: the database cannot be read.
    """
    columns = {row[1] for row in database.execute("pragma table_info(metrics)")}
    key = "run_id" if "run_id" in columns else "run_name"  # older versions have names only
    runs: dict[str, dict[str, Any]] = {}
    for run, name, text in database.execute(f"select {key}, run_name, config from configs"):  # noqa: S608
        config = {k: v for k, v in _parsed(text, where).items() if not k.startswith("_")}
        runs[run] = {"run": name, **flat({"config": config})}
    rows, places = [], []
    query = f"select {key}, run_name, step, metrics from metrics order by {key}, step, id"  # noqa: S608
    for run, name, step, text in database.execute(query):
        metrics = flat(_parsed(text, where))
        values = {metric: SPECIAL.get(str(value), value) for metric, value in metrics.items()}
        rows.append({**runs.get(run, {"run": name}), "step": step, **values})
        places.append(f"{name} step {step}")
    if not rows:
        raise InputError(f"{where}: nothing was logged in this project; give another one")
    return Table(where, "run", frame_of(rows, places))


def _parsed(text: str | bytes, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise InputError(
            f"{where}: holds a value that is not JSON ({error}); export the project as CSV"
        ) from error
    return found if isinstance(found, dict) else {}
