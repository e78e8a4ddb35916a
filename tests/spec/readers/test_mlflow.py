"""Runs that MLflow 3.17.2 wrote, in a database and in a file store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.readers.sqlite import read_sqlite
from mutransfer_cli.spec.readers.systems import read_folder
from mutransfer_cli.spec.readers.table import Table


def no_file(path: Path) -> Table:
    raise AssertionError(path)


def values(table: Table) -> list[tuple[Any, ...]]:
    names = ["status", "params.width", "params.lr", "metrics.val_loss"]
    return sorted(table.cells[names].itertuples(index=False, name=None))


EXPECTED: list[tuple[Any, ...]] = [
    ("finished", "128", "0.0625", pytest.approx(3.3029931002325754)),
    ("finished", "64", "0.125", pytest.approx(3.408771501973671)),
]


def test_a_database_and_a_file_store_hold_the_same_runs(
    database: Callable[..., Path], recorded: Callable[[str], Path]
) -> None:
    in_database = read_sqlite(database("mlflow"))
    in_folder = read_folder(recorded("mlruns"), no_file)
    assert values(in_database) == values(in_folder) == EXPECTED
    for table in (in_database, in_folder):
        assert table.cells["experiment"].tolist() == ["bowl", "bowl"]
        assert sorted(table.cells["name"]) == ["run-00", "run-11"]


def test_deleted_runs_are_left_out_and_others_keep_their_status(
    database: Callable[..., Path], recorded: Callable[[str], Path]
) -> None:
    changes = (
        "update runs set lifecycle_stage = 'deleted' where name = 'run-00'",
        "update runs set status = 'KILLED' where name = 'run-11'",
        "update latest_metrics set is_nan = 1",
    )
    cells = read_sqlite(database("mlflow", *changes)).cells
    assert cells["status"].tolist() == ["killed"]
    assert cells["metrics.val_loss"].isna().all()
    folder = recorded("mlruns")
    first, second = sorted(folder.glob("*/*/meta.yaml"))
    first.write_text(first.read_text().replace("active", "deleted"))
    second.write_text(second.read_text().replace("status: 3", "status: 4"))
    assert read_folder(folder, no_file).cells["status"].tolist() == ["failed"]


def test_the_metric_of_the_last_step_counts(recorded: Callable[[str], Path]) -> None:
    folder = recorded("mlruns")
    for path in folder.glob("*/*/metrics/val_loss"):
        path.write_text("9 2.5 200\n8 3.5 300\n7 1.5 100\n")
    assert read_folder(folder, no_file).cells["metrics.val_loss"].tolist() == [3.5, 3.5]
    path.write_text("9 many 200\n")
    with pytest.raises(
        InputError, match=r"val_loss line 1: not .timestamp value step.*search_runs"
    ):
        read_folder(folder, no_file)
