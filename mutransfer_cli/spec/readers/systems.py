"""Which system a folder belongs to, and its runs as one raw table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.kinds import SQLITE, TRIALS
from mutransfer_cli.spec.readers import (
    folders,
    lightning,
    mlflow,
    ray_tune,
    tensorboard,
    trainer_state,
    wandb,
)
from mutransfer_cli.spec.readers.table import Table
from mutransfer_cli.spec.readers.tree import Tree, tree_of
from mutransfer_cli.spec.yaml_io import cannot_read

DATABASES = (".db", ".sqlite", ".sqlite3", ".log", ".journal", ".jsonl")


def _mlflow_runs(tree: Tree) -> list[str]:
    return [folder for folder in tree.holding(mlflow.META) if mlflow.is_run(tree, folder)]


# what another form of a system's files leads to: bytes that are no text, a list for an object
FOREIGN = (ValueError, LookupError, TypeError, AttributeError, RecursionError)

Find = Callable[[Tree], list[str]]
Read = Callable[[Tree, list[str]], Table]
# by preference: a run that several systems logged is read from the one that says most about it
SYSTEMS: tuple[tuple[str, Find, Read], ...] = (
    ("W&B", wandb.find_runs, wandb.read_folders),
    ("MLflow", _mlflow_runs, mlflow.read_folders),
    ("Ray Tune", ray_tune.find_trials, ray_tune.read_folders),
    ("Trainer", trainer_state.find_runs, trainer_state.read_folders),
    ("Lightning", lightning.find_runs, lightning.read_folders),
    ("TensorBoard", tensorboard.find_runs, tensorboard.read_folders),
)


def read_folder(root: Path, read: Callable[[Path], Table], pattern: str | None = None) -> Table:
    """Read the runs of a folder, by whichever system it was written.

    Args:
        read: reads one file.
        pattern: the form of the paths of the files to read, as for `tree_of`.

    Raises:
        InputError: no runs can be read, with what to give instead.
    """
    tree = tree_of(root, pattern)
    try:
        for name, find, read_folders in SYSTEMS:
            found = find(tree)
            if found:
                table = read_folders(tree, found)
                note = f"{root}: {len(table.cells)} runs of {name}"
                return replace(table, notes=(note, *table.notes))
    except OSError as error:
        raise cannot_read(error.filename or root, error) from error
    except FOREIGN as error:
        raise InputError(
            f"{root}: a file of {name} cannot be read ({error}); export one row per run as CSV"
        ) from error
    own = tree.holding(TRIALS)
    if own:
        raise InputError(
            f"{root}: holds records of sweeps in {', '.join(own[:3])}; give those folders"
        )
    databases = [path for path in tree.paths if _is_database(root / path)]
    if len(databases) > 1:
        raise InputError(
            f"{root}: holds {len(databases)} databases ({', '.join(databases[:3])}); give one file"
        )
    if databases:
        return read(root / databases[0])
    return folders.read_folders(tree, read)


def _is_database(path: Path) -> bool:
    """Whether a file is a database, or a journal of Optuna."""
    if path.suffix not in DATABASES:
        return False
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError:
        return False
    return start.startswith((SQLITE, b'{"op_code"'))
