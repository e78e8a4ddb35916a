"""Runs of Lightning's CSVLogger: `metrics.csv` beside `hparams.yaml`.

A run's result is the last value of each metric, as in `trainer.callback_metrics`. The files do not
tell whether a run ended.
"""

from __future__ import annotations

import re

from mutransfer_cli.spec.readers.delimited import read_delimited
from mutransfer_cli.spec.readers.table import Table, last_of_each, runs_table
from mutransfer_cli.spec.readers.tree import Tree

METRICS, SETTINGS = "metrics.csv", "hparams.yaml"
VERSION = re.compile(r"(?:.*/)?version_\d+")


def find_runs(tree: Tree) -> list[str]:
    """The folders of runs: named `version_N`, or with hyperparameters beside the metrics."""
    return [
        folder
        for folder in tree.holding(METRICS)
        if VERSION.fullmatch(folder or tree.root.name) or (tree.root / folder / SETTINGS).is_file()
    ]


def read_folders(tree: Tree, folders: list[str]) -> Table:
    """Read the last value of each metric of every run.

    Raises:
        InputError: a file that is neither CSV nor plain YAML.
    """
    runs, empty = {}, []
    for folder in folders:
        path = tree.root / folder / METRICS
        text = path.read_text(encoding="utf-8")
        rows = read_delimited(text, str(path)).cells.to_dict("records") if text.strip() else []
        settings = tree.settings(f"{folder}/{METRICS}" if folder else METRICS)
        if not rows:
            empty.append(folder)
            continue
        metrics = last_of_each({str(name): value for name, value in row.items()} for row in rows)
        runs[folder or tree.root.name] = settings | metrics
    notes: tuple[str, ...] = ()
    if empty:
        notes = (f"{tree.where}: {len(empty)} runs without metrics are left out ({empty[0]}, ...)",)
    return runs_table(tree.where, runs, notes=notes)
