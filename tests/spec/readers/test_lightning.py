"""A run that Lightning 2.6.6 logged with its CSVLogger."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mutransfer_cli.spec.readers.lightning import find_runs, read_folders
from mutransfer_cli.spec.readers.tree import tree_of


def test_the_last_value_of_each_metric_counts(recorded: Callable[[str], Path]) -> None:
    folder = recorded("lightning")
    (folder / "version_1").mkdir()
    (folder / "version_1" / "metrics.csv").write_text("")
    tree = tree_of(folder)
    table = read_folders(tree, find_runs(tree))
    assert table.cells.to_dict("records") == [
        {
            "run": "version_0",
            "config.width": 64,
            "config.lr": 0.125,
            "epoch": "2",
            "step": "5",
            "train_loss": "3.3087716102600098",
            "val_loss": "3.408771514892578",
        }
    ]
    assert table.notes == (f"{folder}: 1 runs without metrics are left out (version_1, ...)",)


def test_other_files_of_that_name_are_not_lightnings(tmp_path: Path) -> None:
    (tmp_path / "width64").mkdir()
    (tmp_path / "width64" / "metrics.csv").write_text("loss\n3\n")
    assert find_runs(tree_of(tmp_path)) == []
