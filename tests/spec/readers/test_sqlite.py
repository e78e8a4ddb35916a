"""Databases of other systems, and broken ones."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.kinds import SQLITE
from mutransfer_cli.spec.readers.sqlite import read_sqlite


def test_another_database_is_named_by_its_tables(tmp_path: Path) -> None:
    path = tmp_path / "own.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table results (width, lr, loss)")
    with pytest.raises(InputError, match=r"neither Optuna.*\(tables: results\); export one row"):
        read_sqlite(path)


def test_a_broken_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.db"
    path.write_bytes(SQLITE + b"\0" * 200)
    with pytest.raises(InputError, match=r"broken.db: the database cannot be read .*export"):
        read_sqlite(path)


@pytest.mark.parametrize(
    "change",
    [
        "update trial_params set distribution_json = '{'",
        "update trial_params set trial_id = 77 where trial_id = 1",
        "update trial_params set distribution_json = x'ff' where trial_id = 1",
    ],
)
def test_contents_of_another_form_are_refused(database: Callable[..., Path], change: str) -> None:
    with pytest.raises(InputError, match=r"optuna.db: the database cannot be read .*export"):
        read_sqlite(database("optuna", change))


def test_reading_changes_nothing(database: Callable[..., Path]) -> None:
    path = database("optuna")
    before = path.read_bytes()
    read_sqlite(path)
    assert path.read_bytes() == before
    assert [other.name for other in path.parent.iterdir()] == ["optuna.db"]
