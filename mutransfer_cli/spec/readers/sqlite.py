"""SQLite databases of Optuna, MLflow and Trackio, opened for reading only."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.readers import mlflow, optuna, trackio
from mutransfer_cli.spec.readers.table import Table

Read = Callable[[sqlite3.Connection, str], Table]
# the tables by which a database is recognised
SYSTEMS: tuple[tuple[set[str], Read], ...] = (
    ({"studies", "trials", "trial_params"}, optuna.read_database),
    ({"experiments", "runs", "latest_metrics"}, mlflow.read_database),
    ({"metrics", "configs"}, trackio.read_database),
)


def read_sqlite(path: Path) -> Table:
    """Read the runs of the system that wrote a database.

    Raises:
        InputError: it cannot be read, or belongs to none of the three systems.
    """
    where = str(path)
    try:
        # a log that is not merged yet holds the newest rows; `mode=ro` still reads it
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            found = database.execute("select name from sqlite_master where type = 'table'")
            tables = {name for (name,) in found}
            for needed, read in SYSTEMS:
                if needed <= tables:
                    return read(database, where)
    except (sqlite3.Error, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(
            f"{where}: the database cannot be read ({error}); copy it when nothing writes to it, "
            "or export its runs as CSV"
        ) from error
    shown = ", ".join(sorted(tables)[:5]) or "none"
    raise InputError(
        f"{where}: a database of neither Optuna, MLflow nor Trackio (tables: {shown}); export one "
        "row per run as CSV"
    )
