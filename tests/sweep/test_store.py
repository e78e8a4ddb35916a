from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.measurements import CURVES
from mutransfer_cli.spec.records import SweepHeader
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.store import Finished, RecordStore
from tests.conftest import CPU
from tests.made_up import record

Prepare = Callable[[dict[str, Any]], Sweep]


@pytest.fixture
def header(tiny: dict[str, Any], prepare: Prepare) -> SweepHeader:
    return prepare(tiny).header(CPU)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "tiny"


def test_records_outlive_the_store(folder: Path, header: SweepHeader) -> None:
    with RecordStore(folder, header) as store:
        store.append(Finished([record("a"), record("b")], [{"trial": "a"}, {"trial": "b"}]))
    with RecordStore(folder, header) as store:
        assert list(store.trials) == ["a", "b"]
        assert len(store.path.read_bytes().splitlines()) == 3
    assert (folder / CURVES).read_text() == '{"trial": "a"}\n{"trial": "b"}\n'


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_torn_last_line_is_cut_off(folder: Path, header: SweepHeader, cut: int) -> None:
    with RecordStore(folder, header) as store:
        store.append(Finished([record("a"), record("b")], [{"trial": "a"}, {"trial": "b"}]))
    for name in ("trials.jsonl", CURVES):
        path = folder / name
        path.write_bytes(path.read_bytes()[: -min(cut, 10 if name == CURVES else cut)])
    with RecordStore(folder, header) as store:
        assert list(store.trials) == ["a"]
        store.append(Finished([record("b")], [{"trial": "b"}]))
    assert [line[-1:] for line in (folder / CURVES).read_bytes().splitlines(True)] == [b"\n"] * 2
    with RecordStore(folder, header) as store:
        assert list(store.trials) == ["a", "b"]


def test_a_torn_header_is_written_again(folder: Path, header: SweepHeader) -> None:
    with RecordStore(folder, header):
        pass
    path = folder / "trials.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:60])
    with RecordStore(folder, header):
        pass
    assert path.read_bytes() == whole


def test_another_protocol_is_refused_with_the_difference(
    folder: Path, header: SweepHeader, tiny: dict[str, Any], prepare: Prepare
) -> None:
    with RecordStore(folder, header) as store:
        store.append(Finished([record("a")]))
    before = (folder / "trials.jsonl").read_bytes()
    tiny["train"] |= {"steps": 20, "schedule": "cosine"}
    with pytest.raises(
        InputError,
        match=r"another protocol; train.schedule: linear there, cosine here; "
        r"train.steps: 10 there, 20 here",
    ):
        RecordStore(folder, prepare(tiny).header(CPU))
    assert (folder / "trials.jsonl").read_bytes() == before


def test_a_file_that_is_not_ours_is_left_alone(folder: Path, header: SweepHeader) -> None:
    folder.mkdir(parents=True)
    (folder / "trials.jsonl").write_text("my notes")
    with pytest.raises(InputError, match="is not a record file"):
        RecordStore(folder, header)
    assert (folder / "trials.jsonl").read_text() == "my notes"


def test_a_folder_that_cannot_be_made_is_the_users_fault(
    tmp_path: Path, header: SweepHeader
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/run: cannot be written \(Not a directory\)"):
        RecordStore(tmp_path / "file" / "run", header)


def test_two_sweeps_cannot_write_one_folder(folder: Path, header: SweepHeader) -> None:
    with (
        RecordStore(folder, header),
        pytest.raises(InputError, match="is being written by another sweep"),
    ):
        RecordStore(folder, header)


def test_measurements_are_there_once_something_was_measured(
    folder: Path, header: SweepHeader
) -> None:
    """A torn last line is cut off before the next is written."""
    path = folder / "diagnostics.jsonl"
    with RecordStore(folder, header) as store:
        store.append(Finished([record("a")]))
        assert not path.exists()
        store.append(Finished([record("b")], diagnostics=[{"trial": "b"}]))
    path.write_bytes(path.read_bytes() + b'{"trial')
    with RecordStore(folder, header) as store:
        store.append(Finished([record("c")], diagnostics=[{"trial": "c"}]))
        store.append(Finished([record("d")], diagnostics=[{"trial": "d"}]))
    assert path.read_text() == '{"trial": "b"}\n{"trial": "c"}\n{"trial": "d"}\n'
