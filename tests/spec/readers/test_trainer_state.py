"""Checkpoints that transformers 5.23.0 wrote."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mutransfer_cli.spec.readers.table import Table
from mutransfer_cli.spec.readers.trainer_state import find_runs, read_folders
from mutransfer_cli.spec.readers.tree import tree_of


def read(folder: Path, pattern: str | None = None) -> Table:
    tree = tree_of(folder, pattern)
    return read_folders(tree, find_runs(tree))


def test_the_latest_checkpoint_of_a_run_counts(recorded: Callable[[str], Path]) -> None:
    folder = recorded("trainer")
    (row,) = read(folder, "width{width}_lr{lr}").cells.to_dict("records")
    assert (row["run"], row["width"], row["lr"], row["step"]) == (
        "width64_lr0.125",
        "64",
        "0.125",
        3,
    )
    assert row["eval_loss"] == pytest.approx(3.408771, abs=1e-6)
    assert row["status"] == "finished"


def test_training_losses_are_named_as_such(recorded: Callable[[str], Path]) -> None:
    """Trainer's own name `loss` would be taken for the loss to fit."""
    (row,) = read(recorded("trainer")).cells.to_dict("records")
    assert "train_loss" in row
    assert "loss" not in row


def test_the_scheduled_rate_is_not_the_peak(recorded: Callable[[str], Path]) -> None:
    (row,) = read(recorded("trainer")).cells.to_dict("records")
    assert not [name for name in row if str(name).endswith("learning_rate")]


def test_a_search_knows_its_values_and_a_run_may_have_stopped(tmp_path: Path) -> None:
    state = {
        "global_step": 50,
        "max_steps": 100,
        "trial_params": {"learning_rate": 0.01, "model": {"width": 64}},
        "log_history": [{"eval_loss": 3.0, "step": 50, "eval_runtime": 1.0}],
    }
    (tmp_path / "run-0").mkdir()
    (tmp_path / "run-0" / "trainer_state.json").write_text(json.dumps(state))
    assert read(tmp_path).cells.to_dict("records") == [
        {
            "run": "run-0",
            "status": "early-stopped",
            "config.learning_rate": 0.01,
            "config.model.width": 64,
            "eval_loss": 3.0,
            "step": 50,
        }
    ]
