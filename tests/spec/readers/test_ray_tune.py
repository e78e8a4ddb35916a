"""An experiment of Ray Tune 2.60.0 with two trials of three reports each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.readers.ray_tune import RESULT, find_trials, read_folders
from mutransfer_cli.spec.readers.table import Table
from mutransfer_cli.spec.readers.tree import tree_of


def read(folder: Path) -> Table:
    tree = tree_of(folder)
    return read_folders(tree, find_trials(tree))


def test_the_last_report_of_each_trial_counts(recorded: Callable[[str], Path]) -> None:
    cells = read(recorded("ray")).cells
    assert cells["config.optim.lr"].tolist() == [0.125, 0.0625]
    assert cells["config.width"].tolist() == [64, 64]
    assert cells["val_loss"].tolist()[0] == pytest.approx(3.408771501973671)
    assert cells["training_iteration"].tolist() == [3, 3]
    assert cells["status"].tolist() == ["finished", "finished"]
    assert "pid" not in cells


def test_trials_that_failed_or_go_on(recorded: Callable[[str], Path]) -> None:
    folder = recorded("ray")
    (state,) = folder.glob("*/experiment_state-*.json")
    state.write_text(state.read_text().replace("TERMINATED", "RUNNING"))
    first, second = sorted(path.parent for path in folder.glob("*/*/result.json"))
    (first / "error.txt").write_text("out of memory")
    assert read(folder).cells["status"].tolist() == ["failed", "running"]
    state.unlink()
    (second / RESULT).unlink()
    (second / "params.pkl").write_bytes(b"")  # is there, and never read
    assert read(folder).cells["status"].tolist() == ["failed", "pending"]


def test_a_cut_line_is_not_the_result(recorded: Callable[[str], Path]) -> None:
    folder = recorded("ray")
    path = sorted(folder.glob("*/*/result.json"))[0]
    path.write_text(path.read_text() + '{"val_loss": 0.')
    assert read(folder).cells["val_loss"].tolist()[0] == pytest.approx(3.408771501973671)
    path.write_text("{}\n{\n{\n")
    with pytest.raises(InputError, match=r"line 2: not a result of Ray Tune .*get_dataframe"):
        read(folder)
