"""Event files that torch's SummaryWriter wrote (tensorboard 2.21.0)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.readers.table import Table
from mutransfer_cli.spec.readers.tensorboard import find_runs, read_folders, records
from mutransfer_cli.spec.readers.tree import tree_of


def read(folder: Path, pattern: str | None = None) -> Table:
    tree = tree_of(folder, pattern)
    return read_folders(tree, find_runs(tree))


def test_hyperparameters_and_last_scalars(recorded: Callable[[str], Path]) -> None:
    """torch writes hyperparameters into a folder inside the run's, which is no run of its own."""
    assert read(recorded("tensorboard")).cells.to_dict("records") == [
        {
            "run": "run-00",
            "config.width": 64.0,
            "config.lr": 0.125,
            "config.optimizer": "adam",
            "final_loss": pytest.approx(3.408771, abs=1e-6),
            "val_loss": pytest.approx(3.408771, abs=1e-6),
            "step": 300,
        }
    ]


def test_values_may_be_in_the_folders_name(recorded: Callable[[str], Path]) -> None:
    folder = recorded("tensorboard")
    (folder / "run-00").rename(folder / "width64_lr0.125")
    cells = read(folder, "width{width}_lr{lr}").cells
    assert cells[["width", "lr"]].to_dict("records") == [{"width": "64", "lr": "0.125"}]


def event(step: int, value: bytes) -> bytes:
    """A framed Event with a step and one Summary.Value."""

    def part(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    record = bytes([2 << 3, step]) + part(5, part(1, part(1, b"loss") + value))
    return struct.pack("<QI", len(record), 0) + record + b"\0\0\0\0"


@pytest.mark.parametrize("with_own_file", [False, True])
def test_training_and_validation_are_one_run(tmp_path: Path, with_own_file: bool) -> None:
    """Keras has two folders for a run, and `add_scalars` of torch has one for each scalar."""
    value = {"train": 2.0, "validation": 3.0}
    for name, loss in value.items():
        folder = tmp_path / "width64_lr0.1" / name
        folder.mkdir(parents=True)
        content = event(1, b"\x15" + struct.pack("<f", loss))
        (folder / "events.out.tfevents.1").write_bytes(content)
        if with_own_file:
            (folder.parent / "events.out.tfevents.1").write_bytes(b"")
    (row,) = read(tmp_path, "width{width}_lr{lr}").cells.to_dict("records")
    assert row == {
        "run": "width64_lr0.1",
        "width": "64",
        "lr": "0.1",
        "train/loss": 2.0,
        "validation/loss": 3.0,
        "step": 1,
    }


def test_tensors_of_one_element_are_scalars(tmp_path: Path) -> None:
    """TensorFlow 2 writes scalars as tensors, of which one writes bytes and another floats."""
    number = struct.pack("<f", 2.5)
    content, floats = b"\x42\x06\x22\x04" + number, b"\x42\x06\x2a\x04" + number
    path = tmp_path / "events.out.tfevents.1"
    for tensor in (content, floats):
        path.write_bytes(event(1, b"\x15" + struct.pack("<f", 9.0)) + event(2, tensor))
        cells = read(tmp_path).cells
        assert (cells["loss"].tolist(), cells["step"].tolist()) == ([2.5], [2])


def test_a_run_that_goes_on_is_read_up_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(event(1, b"\x15" + struct.pack("<f", 9.0)) + event(2, b"")[:-1])
    assert read(tmp_path).cells["loss"].tolist() == [9.0]
    assert list(records(b"")) == []
    path.write_bytes(b"\xff" * 40)
    with pytest.raises(InputError, match=r"not an event file of TensorBoard .*export the scalars"):
        read(tmp_path)
