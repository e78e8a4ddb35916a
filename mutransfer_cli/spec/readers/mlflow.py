"""MLflow runs in SQLite databases and in folders (`mlruns`).

The columns are those of `mlflow.search_runs()`: `params.lr`, `metrics.val_loss`, `tags.note`. A
run's metric is its value at the last step, as MLflow's own tables show it.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.readers.table import Table, runs_table
from mutransfer_cli.spec.readers.tree import Tree, read_yaml_file

STATUSES = {"SCHEDULED": "pending", "UNFINISHED": "running"}
NUMBERED = ("", "running", "pending", "finished", "failed", "killed")
META = "meta.yaml"
OWN_TAGS = "mlflow."  # names of tags that MLflow sets itself


def read_database(database: sqlite3.Connection, where: str) -> Table:
    """Read every run of an MLflow database that was not deleted.

    Raises:
        InputError: there is no run.
        sqlite3.Error: the database cannot be read.
    """
    runs: dict[str, dict[str, Any]] = {}
    query = (
        "select run_uuid, runs.name, experiments.name, status from runs join experiments "
        "using (experiment_id) where runs.lifecycle_stage = 'active' "
        "and experiments.lifecycle_stage = 'active' order by start_time"
    )
    for key, name, experiment, status in database.execute(query):
        word = STATUSES.get(status, str(status).lower())
        runs[key] = {"name": name, "experiment": experiment, "status": word}
    for kind in ("params", "tags"):
        for key, name, value in database.execute(f"select run_uuid, key, value from {kind}"):  # noqa: S608
            if key in runs and not name.startswith(OWN_TAGS):
                runs[key][f"{kind}.{name}"] = value
    query = "select run_uuid, key, value, is_nan, step from latest_metrics"
    for key, name, value, is_nan, _ in database.execute(query):
        if key in runs:
            runs[key][f"metrics.{name}"] = math.nan if is_nan else value
    return _table(where, runs)


def is_run(tree: Tree, folder: str) -> bool:
    """Whether a folder of a tree is a run of MLflow's file store."""
    names = tree.folders.get(folder, ())
    inner = (f"{folder}/{name}" if folder else name for name in ("params", "metrics"))
    return META in names and any(tree.has_folder(name) for name in inner)


def read_folders(tree: Tree, folders: Sequence[str]) -> Table:
    """Read the runs of a file store; a metric's file has `timestamp value step` per line.

    Raises:
        InputError: a file that is none of MLflow's.
    """
    runs: dict[str, dict[str, Any]] = {}
    for folder in folders:
        path = tree.root / folder
        about = read_yaml_file(path / META)
        if about.get("lifecycle_stage", "active") != "active":
            continue
        status = about.get("status", 0)
        values: dict[str, Any] = {
            "name": about.get("run_name"),
            "experiment": _experiment(path.parent, about),
            "status": NUMBERED[status] if status in range(len(NUMBERED)) else str(status),
        }
        for kind in ("params", "tags"):
            for name, file in tree.inside(f"{folder}/{kind}"):
                if not name.startswith(OWN_TAGS):
                    values[f"{kind}.{name}"] = file.read_text(encoding="utf-8").strip()
        for name, file in tree.inside(f"{folder}/metrics"):
            values[f"metrics.{name}"] = _latest(file)
        runs[str(about.get("run_id", folder))] = values
    return _table(str(tree.root), runs)


def _experiment(folder: Path, about: dict[str, Any]) -> str:
    path = folder / META
    found = read_yaml_file(path).get("name") if path.is_file() else None
    return str(found or about.get("experiment_id", ""))


def _latest(file: Path) -> float:
    """The value at the last step; of equal steps the last in time, then the largest.

    Source: `FileStore._get_metric_from_lines` and `SqlAlchemyStore` keep the same order.
    """
    points = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            time, value, step = [*line.split()[:3], "0"][:3]
            points.append((int(step), int(time), float(value)))
        except ValueError as error:
            raise InputError(
                f"{file} line {number}: not `timestamp value step`, as MLflow writes metrics; "
                "export mlflow.search_runs().to_csv('runs.csv')"
            ) from error
    return max(points, default=(0, 0, math.nan), key=lambda point: point[:2])[2]


def _table(where: str, runs: dict[str, dict[str, Any]]) -> Table:
    experiments = list(dict.fromkeys(str(run["experiment"]) for run in runs.values()))
    notes: tuple[str, ...] = ()
    if len(experiments) > 1:
        notes = (
            f"{where}: {len(experiments)} experiments are read together "
            f"({', '.join(experiments[:5])}); see column experiment",
        )
    return runs_table(where, runs, notes=notes)
