"""Folders are told apart by what is in them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.tables import load_table


@pytest.mark.parametrize(
    ("folder", "note"),
    [
        ("wandb", "1 runs of W&B"),
        ("mlruns", "2 runs of MLflow"),
        ("ray", "2 runs of Ray Tune"),
        ("trainer", "1 runs of Trainer"),
        ("lightning", "1 runs of Lightning"),
        ("tensorboard", "1 runs of TensorBoard"),
    ],
)
def test_every_system_is_recognised_and_said(
    recorded: Callable[[str], Path], folder: str, note: str
) -> None:
    path = recorded(folder)
    assert load_table(path).notes == (f"{path}: {note}",)
    inside = path.parent / "outer"
    inside.mkdir()
    path.rename(inside / folder)
    assert load_table(inside).notes == (f"{inside}: {note}",)


def test_a_run_logged_twice_is_read_once(recorded: Callable[[str], Path]) -> None:
    path = recorded("ray")
    events = next(recorded("tensorboard").glob("*/events*"))
    for trial in path.glob("*/*/result.json"):
        shutil.copy(events, trial.parent)
    assert load_table(path).notes == (f"{path}: 2 runs of Ray Tune",)


def test_a_database_in_a_folder_is_read(database: Callable[..., Path]) -> None:
    path = database("trackio")
    path.with_suffix(".lock").write_text("")
    assert load_table(path.parent).cells["config.width"].tolist() == [64]
    database("optuna")
    with pytest.raises(InputError, match=r"holds 2 databases \(optuna.db, trackio.db\); give one"):
        load_table(path.parent)


def test_folders_of_own_sweeps_are_pointed_at(tmp_path: Path) -> None:
    (tmp_path / "quickstart").mkdir()
    (tmp_path / "quickstart" / "trials.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match="holds records of sweeps in quickstart; give those"):
        load_table(tmp_path)


def test_files_of_another_form_are_refused(recorded: Callable[[str], Path]) -> None:
    folder = recorded("trainer")
    for path in folder.glob("*/*/trainer_state.json"):
        path.write_text('{"global_step": [1], "log_history": []}')
    with pytest.raises(
        InputError, match=r"a file of Trainer cannot be read .*; export one row per"
    ):
        load_table(folder)


def test_a_file_that_may_not_be_read_is_named(recorded: Callable[[str], Path]) -> None:
    path = recorded("lightning") / "version_0" / "metrics.csv"
    path.unlink()
    path.symlink_to("gone.csv")
    with pytest.raises(InputError, match=r"metrics.csv: cannot be read"):
        load_table(path.parent.parent)
