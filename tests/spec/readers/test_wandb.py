"""Runs in a `wandb` folder: one that W&B 0.31.0 wrote offline, and files of online runs."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.readers.table import Table
from mutransfer_cli.spec.readers.tree import tree_of
from mutransfer_cli.spec.readers.wandb import find_runs, read_folders, records


def read(folder: Path) -> Table:
    tree = tree_of(folder)
    return read_folders(tree, find_runs(tree))


def test_an_offline_run_is_in_its_log(recorded: Callable[[str], Path]) -> None:
    folder = recorded("wandb")
    expected = {
        "run": "btf4e54c",
        "status": "finished",
        "name": "run-00",
        "config.width": 64,
        "config.optim.lr": 0.125,
        "step": 300,
        "summary.val_loss": pytest.approx(3.408771501973671),
    }
    assert read(folder).cells.to_dict("records") == [expected]
    assert read(next(folder.glob("offline-run-*"))).cells.to_dict("records") == [expected]


def test_a_run_without_an_end_has_crashed(recorded: Callable[[str], Path]) -> None:
    (path,) = recorded("wandb").glob("*/*.wandb")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 40])
    cells = read(path.parent.parent).cells
    assert cells["status"].tolist() == ["crashed"]
    assert cells["config.width"].tolist() == [64]
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"not a log of W&B .*sync it and export the runs table"):
        read(path.parent.parent)


def test_an_online_run_leaves_files(tmp_path: Path) -> None:
    files = tmp_path / "wandb" / "run-20261130_120000-abc" / "files"
    files.mkdir(parents=True)
    (files / "config.yaml").write_text(
        "wandb_version: 1\n_wandb: {value: {t: 1}}\nlr: {desc: null, value: 1e-3}\n"
        "model:\n  value: {width: 64}\n"
    )
    summary = {"val_loss": {"min": 3.2}, "_step": 300, "_runtime": 5, "_wandb": {"runtime": 5}}
    (files / "wandb-summary.json").write_text(json.dumps(summary))
    assert read(tmp_path).cells.to_dict("records") == [
        {
            "run": "abc",
            "config.lr": 0.001,
            "config.model.width": 64,
            "step": 300,
            "summary.val_loss.min": 3.2,
        }
    ]


def test_a_resumed_run_is_one(recorded: Callable[[str], Path]) -> None:
    (first,) = recorded("wandb").glob("offline-run-*")
    again = first.parent / "offline-run-20261201_000000-btf4e54c"
    shutil.copytree(first, again)
    (log,) = first.glob("*.wandb")
    log.write_bytes(log.read_bytes()[:-40])  # crashed before it was resumed
    table = read(first.parent)
    assert table.cells["status"].tolist() == ["finished"]
    assert table.notes == (f"{first.parent}: 1 runs were resumed; their last part counts",)


def test_records_may_go_over_blocks() -> None:
    """Kinds 2, 3 and 4 are the first, middle and last part; a block ends in zeros."""

    def part(kind: int, content: bytes) -> bytes:
        return struct.pack("<IHB", 0, len(content), kind) + content

    start = b":W&B\xe1\xbe\x00"
    first = part(1, b"one")
    room = 32768 - len(start) - len(first) - 7 - 3
    data = start + first + part(2, b"x" * room) + b"\0\0\0" + part(4, b"y") + part(1, b"cut")[:-1]
    assert list(records(data)) == [b"one", b"x" * room + b"y"]
