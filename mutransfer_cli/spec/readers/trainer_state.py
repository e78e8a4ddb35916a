"""Runs of transformers' Trainer: `trainer_state.json` in the folder of a run or its checkpoints.

A run's result is the last value of each metric in the log of its latest checkpoint. The learning
rate in that log is the scheduled one, which ends near zero, so that it is left out: the peak comes
from the folder's name, from the trial of a hyperparameter search, or from a file of settings.
"""

from __future__ import annotations

import re
from typing import Any

from mutransfer_cli.spec.readers.table import Table, flat, last_of_each, runs_table
from mutransfer_cli.spec.readers.tree import Tree, read_json_file

STATE = "trainer_state.json"
CHECKPOINT = re.compile(r"checkpoint-\d+")
SCHEDULED = "learning_rate"
# Trainer's `loss` is the mean since the last entry, its `train_loss` that of all steps
LOSSES = {"loss": "train_loss", "train_loss": "mean_train_loss"}
OWN = frozenset(
    {
        "total_flos",
        "train_runtime",
        "train_samples_per_second",
        "train_steps_per_second",
        "eval_runtime",
        "eval_samples_per_second",
        "eval_steps_per_second",
    }
)


def find_runs(tree: Tree) -> list[str]:
    """The folders that hold a state."""
    return tree.holding(STATE)


def read_folders(tree: Tree, folders: list[str]) -> Table:
    """Read the latest state of every run.

    A run that stopped before its last step is `early-stopped`.

    Raises:
        InputError: a state is not JSON.
    """
    latest: dict[str, tuple[int, str, dict[str, Any]]] = {}
    for folder in folders:
        state = read_json_file(tree.root / folder / STATE)
        outer, _, last = folder.rpartition("/")
        run = outer if CHECKPOINT.fullmatch(last) else folder
        step = int(state.get("global_step") or 0)
        if run not in latest or step >= latest[run][0]:
            latest[run] = (step, folder, state)
    runs = {}
    for run, (step, folder, state) in latest.items():
        values = tree.settings(f"{folder}/{STATE}" if folder else STATE)
        if isinstance(state.get("trial_params"), dict):
            values |= flat({"config": state["trial_params"]})
        logged = [row for row in state.get("log_history", []) if isinstance(row, dict)]
        metrics = last_of_each(flat(row) for row in logged)
        metrics = {LOSSES.get(name, name): value for name, value in metrics.items()}
        ended = step >= int(state.get("max_steps") or 0)
        runs[run or tree.root.name] = {
            "status": "finished" if ended else "early-stopped",
            **values,
            **{name: v for name, v in metrics.items() if name != SCHEDULED and name not in OWN},
            "step": step,
        }
    return runs_table(tree.where, runs)
