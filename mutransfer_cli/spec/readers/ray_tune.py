"""Ray Tune experiments: a folder per trial with `result.json`.

The columns are those of a result, `val_loss` and `config.lr`. A run's result is the last one that
it reported, as in `ResultGrid.get_dataframe()`.
"""

from __future__ import annotations

import json
from typing import Any

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.readers.table import Table, flat, runs_table
from mutransfer_cli.spec.readers.tree import Tree, read_json_file

RESULT, PARAMS, STATE = "result.json", "params.json", "experiment_state-"
STATUSES = {"TERMINATED": "finished", "ERROR": "failed", "PAUSED": "pending"}
# of a result: about the machine and the clock, not the run
OWN = frozenset(
    {
        "timestamp",
        "date",
        "pid",
        "hostname",
        "node_ip",
        "checkpoint_dir_name",
        "done",
        "time_this_iter_s",
        "time_total_s",
        "time_since_restore",
        "iterations_since_restore",
    }
)


def find_trials(tree: Tree) -> list[str]:
    """The folders of trials: with settings, and a result unless they failed before one."""
    return [
        folder
        for folder in tree.holding(PARAMS)
        if RESULT in tree.folders[folder] or "params.pkl" in tree.folders[folder]
    ]


def read_folders(tree: Tree, folders: list[str]) -> Table:
    """Read the trials of one experiment or more.

    The status is that of the experiment's state file; without one, a trial with `error.txt` failed.

    Raises:
        InputError: a file that is none of Ray's.
    """
    statuses = _statuses(tree)
    runs: dict[str, dict[str, Any]] = {}
    for folder in folders:
        values = flat({"config": read_json_file(tree.root / folder / PARAMS)})
        values |= _last_result(tree, folder)
        failed = "error.txt" in tree.folders[folder]
        reported = "finished" if RESULT in tree.folders[folder] else "pending"
        status = statuses.get(folder.rsplit("/", 1)[-1], reported)
        runs[folder or tree.root.name] = {"status": "failed" if failed else status, **values}
    return runs_table(tree.where, runs)


def _last_result(tree: Tree, folder: str) -> dict[str, Any]:
    """The last whole line of a trial's results."""
    if RESULT not in tree.folders[folder]:
        return {}
    path = tree.root / folder / RESULT
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    for number, line in reversed(list(enumerate(lines, 1))):
        try:
            found = json.loads(line)
        except ValueError as error:
            if number == len(lines):  # being written, or cut short
                continue
            raise InputError(
                f"{path} line {number}: not a result of Ray Tune ({error}); export "
                "results.get_dataframe().to_csv('runs.csv')"
            ) from error
        if isinstance(found, dict):
            return {name: value for name, value in flat(found).items() if name not in OWN}
    return {}


def _statuses(tree: Tree) -> dict[str, str]:
    """The status by folder of a trial, in the newest state file of each experiment."""
    found: dict[str, str] = {}
    for folder, names in tree.folders.items():
        for name in sorted(name for name in names if name.startswith(STATE)):
            for trial in read_json_file(tree.root / folder / name).get("trial_data", []):
                state = trial[0] if isinstance(trial, list) and trial else trial
                about = json.loads(state) if isinstance(state, str) else state
                if isinstance(about, dict) and about.get("relative_logdir"):
                    status = str(about.get("status"))
                    found[str(about["relative_logdir"])] = STATUSES.get(status, status.lower())
    return found
