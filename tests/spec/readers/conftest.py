"""Databases and folders with what real loggers left, for the tests of the readers."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

RECORDED = Path(__file__).parent / "recorded"


@pytest.fixture
def database(tmp_path: Path) -> Callable[..., Path]:
    """Make a database from a recorded dump and further statements."""

    def make(name: str, *statements: str) -> Path:
        path = tmp_path / f"{name}.db"
        path.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript((RECORDED / f"{name}.sql").read_text())
            for statement in statements:
                connection.execute(statement)
            connection.commit()
        return path

    return make


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[[str], Path]:
    """Copy a recorded folder or file, to be changed by a test."""

    def copy(name: str) -> Path:
        source, target = RECORDED / name, tmp_path / name
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
        return target

    return copy
