"""Files and folders as raw tables, told apart by their content."""

from __future__ import annotations

import gzip
import io
import sqlite3
import sys
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.tables import Table, load_table

CSV = "width,lr,loss\n16,0.1,3\n"
ROWS = [{"width": "16", "lr": "0.1", "loss": "3"}]
JOURNAL = b'{"op_code":0,"worker_id":"a","study_name":"bowl","directions":[1]}\n'


def load(tmp_path: Path, content: bytes, name: str = "t") -> Table:
    path = tmp_path / name
    path.write_bytes(content)
    return load_table(path)


@pytest.mark.parametrize(
    "content",
    [
        CSV.encode(),
        CSV.encode("utf-8-sig"),
        CSV.encode("utf-16"),
        b"\xfe\xff" + CSV.encode("utf-16-be"),
        CSV.encode("utf-16-le"),
        CSV.encode("utf-16-be"),
        gzip.compress(CSV.encode(), mtime=0),
        gzip.compress(CSV.encode("utf-16"), mtime=0),
        b'[\n  {"width": "16", "lr": "0.1", "loss": "3"}\n]\n',
    ],
)
def test_encodings_and_compression_are_recognised(tmp_path: Path, content: bytes) -> None:
    assert load(tmp_path, content).cells.to_dict("records") == ROWS


def test_stdin_is_read_like_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO(gzip.compress(CSV.encode(), mtime=0))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(content))
    table = load_table(None)
    assert (table.cells.to_dict("records"), table.place(0)) == (ROWS, "stdin line 2")


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("runs.csv", CSV)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty; give one row per run"),
        (b"width,lr,loss\n", "has no rows; give one row per run"),
        (b"\x80\x04\x95...", "is a pickle, which could run code; save one row per run as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "is an old Excel workbook .*; save one row per run"),
        (b"\x93NUMPY\x01", "is an array of NumPy; save"),
        (b":W&B\xe1\xbe\x00", "is the log of one W&B run: give its folder"),
        (gzip.compress(CSV.encode(), mtime=0)[:-9], "not a gzip file .*; compress it again"),
        (zipped(), "is a zip archive; unpack it"),
        (b"width,lr,\xff\n", r"is not UTF-8 text \(byte 9\); save it as UTF-8"),
        (b'{"op_code":0}\n' + JOURNAL, "line 1: not an operation of an Optuna journal"),
        (JOURNAL, "holds no runs; give the place where they were logged"),
    ],
)
def test_what_cannot_be_read_says_what_to_give(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    with pytest.raises(InputError, match=f"t:? ({sentence}|{sentence})"):
        load(tmp_path, content)


def test_nothing_is_read_over_a_network() -> None:
    for address in ("postgresql://host/optuna", "s3://bucket/runs.csv", "https://wandb.ai/a/b"):
        with pytest.raises(InputError, match="is an address, and nothing is read over a network"):
            load_table(Path(address))


def test_a_pattern_is_for_folders(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(CSV)
    with pytest.raises(InputError, match=r"is for folders, and .*t.csv is none") as caught:
        load_table(tmp_path / "t.csv", "w{width}")
    assert caught.value.setting == "path_pattern"


def test_a_database_has_its_own_file(tmp_path: Path) -> None:
    path = tmp_path / "own.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table runs (width, lr, loss)")
    with pytest.raises(InputError, match="a database of neither Optuna, MLflow nor Trackio"):
        load_table(path)
    with pytest.raises(InputError, match="read from its own file only; give its path"):
        load(tmp_path, gzip.compress(path.read_bytes(), mtime=0))
