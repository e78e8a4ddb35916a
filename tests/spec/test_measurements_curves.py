"""Reading `curves.jsonl`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.measurements import read_curves

LINES = [
    {"trial": "a", "step": [1, 3], "train_loss": [2.0, 1.0]},
    {"trial": "b", "step": [1], "train_loss": [None]},
    {"trial": "a", "step": [1, 3], "train_loss": [2.0, 0.5]},
]


def written(path: Path, end: str = "") -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES) + end)
    return path


def test_the_last_line_of_a_trial_counts(tmp_path: Path) -> None:
    path = written(tmp_path / "curves.jsonl", end='{"trial": "b", "st')
    assert [(one.trial, one.train_loss) for one in read_curves(path, ["b", "a", "c"])] == [
        ("b", (None,)),
        ("a", (2.0, 0.5)),
    ]


def test_no_file_is_no_curve(tmp_path: Path) -> None:
    assert read_curves(tmp_path / "curves.jsonl", ["a"]) == []


@pytest.mark.parametrize("line", ["{}", '{"trial": "a", "step": [1], "train_loss": [1.0, 2.0]}'])
def test_what_is_no_curve_is_named(tmp_path: Path, line: str) -> None:
    path = written(tmp_path / "curves.jsonl", end=line + "\n")
    with pytest.raises(InputError, match=r"curves\.jsonl line 4: is not a curve; remove the line"):
        read_curves(path, ["a"])
