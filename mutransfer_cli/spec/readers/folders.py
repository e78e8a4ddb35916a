"""Folders of runs with a file of results each: a Hydra multirun, or `width64_lr0.1/log.csv`.

A run's values are those of its file, which may hold one row or many, of the settings beside it
(`config.NAME`), and of its path.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pandas as pd

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.readers.table import Table
from mutransfer_cli.spec.readers.tree import HYDRA, SETTINGS, Tree

SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".xlsx")
# of those above and of programs: not results
OTHERS = {name.rsplit("/", 1)[-1] for name in SETTINGS}
OTHERS |= {"package.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"}
OTHERS |= {"special_tokens_map.json", "vocab.json", "added_tokens.json", "wandb-metadata.json"}


def read_folders(tree: Tree, read: Callable[[Path], Table]) -> Table:
    """Read the results of every run of a folder.

    Args:
        read: reads one file.

    Raises:
        InputError: no file of results, several in a run, or one that cannot be read.
    """
    paths, notes = _results(tree)
    parts = []
    for path in paths:
        table = read(tree.root / path)
        settings = tree.settings(path)
        cells = table.cells.drop(columns=[name for name in settings if name in table.cells])
        own = {f"file.{name}": table.cells[name] for name in settings if name in table.cells}
        added = {"run": _run(path, paths), **settings, **own}
        named = pd.DataFrame(added, index=cells.index, dtype=object)
        one = cells.drop(columns=[name for name in added if name in cells])
        places = [f"{path} {table.unit} {place}" for place in cells.index]
        parts.append(pd.concat([named, one], axis=1).set_axis(places, axis=0))
        notes += table.notes
    return Table(tree.where, "file", pd.concat(parts), notes=notes)


def _run(path: str, paths: list[str]) -> str:
    """The name of a run: its folder, or its file where a folder holds several."""
    folder = path.rpartition("/")[0]
    return folder if folder and sum(p.rpartition("/")[0] == folder for p in paths) == 1 else path


def _results(tree: Tree) -> tuple[list[str], tuple[str, ...]]:
    """The files of results, and sentences about runs that have none."""
    paths = [path for path in tree.paths if _may_hold_results(path)]
    if not paths:
        raise InputError(
            f"{tree.where}: holds no runs that can be read; give a folder of W&B, MLflow, Ray "
            "Tune, TensorBoard, Lightning, Trainer or Hydra, a database of Optuna, MLflow or "
            "Trackio, or a table as CSV, JSON or Parquet"
        )
    jobs = sorted(
        {folder.removesuffix(HYDRA).rstrip("/") for folder in tree.folders if _is_hydra(folder)}
    )
    if tree.pattern is not None:
        return paths, ()
    if jobs:
        paths = [path for path in paths if path.rpartition("/")[0] in jobs] or paths
    names = Counter(PurePosixPath(path).name for path in paths)
    most = max(names.values())
    if most > 1 or jobs:
        shared = [name for name, count in names.items() if count == most]
        if len(shared) > 1:
            raise InputError(
                f"{tree.where}: a run has several files of results ({', '.join(shared[:4])}); "
                f"choose one by its path, such as '*/{shared[0]}'",
                remedy="path_pattern",
            )
        paths = [path for path in paths if PurePosixPath(path).name == shared[0]]
    without = [job for job in jobs if not any(path.rpartition("/")[0] == job for path in paths)]
    notes: tuple[str, ...] = ()
    if without:
        named = ", ".join(without[:3])
        notes = (f"{tree.where}: {len(without)} runs without results are left out ({named})",)
    return paths, notes


def _is_hydra(folder: str) -> bool:
    return folder == HYDRA or folder.endswith(f"/{HYDRA}")


def _may_hold_results(path: str) -> bool:
    name = PurePosixPath(path).name
    if name in OTHERS or name.startswith(".") or _is_hydra(path.rpartition("/")[0]):
        return False
    return name.removesuffix(".gz").endswith(SUFFIXES)
