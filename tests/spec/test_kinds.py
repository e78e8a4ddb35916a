"""Files of the chain are known by how they begin."""

from __future__ import annotations

import gzip
import io
import sys
from pathlib import Path
from typing import get_args

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.kinds import NAMES, Kind, kind_of, kind_of_start, refuse_other
from tests.made_up import record

SERVER = b"# yaml-language-server: $schema=mutransfer.recipe-1.schema.json\n"


def test_every_kind_has_a_name() -> None:
    assert set(NAMES) == set(get_args(Kind))


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"", "empty"),
        (b" \n\n", "empty"),
        # the tool's own documents, as YAML and as JSON
        (SERVER + b"schema: mutransfer.recipe/1\nwidth: 64\n", "recipe"),
        (b'{\n  "schema": "mutransfer.recipe/1",\n', "recipe"),
        (b'{"schema":"mutransfer.exponents/1"', "exponents"),
        (
            b"schema: mutransfer.exponents/1\nprotocol:\n  schema: mutransfer.protocol/1",
            "exponents",
        ),
        (b"{schema: mutransfer.check/1, verdict: pass}", "check"),
        (b"# mine\nschema: 'mutransfer.sweep/1'\n", "spec"),
        (b"train: {}\nschema: mutransfer.protocol/1\n", "protocol"),
        (b'{"schema": "mutransfer.trial/1", "kind": "sweep"', "records"),
        (record("a").line(), "records"),
        (b"# mutransfer 0.1.0, recipe c6528fe4 for pytorch\nimport re, sys\n", "trainer"),
        (b"<!DOCTYPE html>\n<html>", "page"),
        # a config of transformers, but no table whose rows hold one
        (
            b'{\n  "architectures": ["A"],\n  "rope": {"a": [1]},\n  "model_type": "llama",\n',
            "config",
        ),
        (b'{"model_type": "llama", "hidden_size": 64}', "config"),
        (b'{"model_type": "a", "width": 64}\n{"model_type": "a", "width": 128}\n', "table"),
        (b'{"width": 64, "config": {"model_type": "llama", ' + b"1" * 4086, "table"),
        (b'{\n  "runs": [{"model_type": "llama"}]\n}', "unknown"),
        # only a nested document has a schema
        (b"axes:\n  lr: {}\nprotocol:\n  schema: mutransfer.protocol/1\n", "unknown"),
        (b"schema: mutransfer.other/1\n", "unknown"),
        (b"schema: mine/1\n", "unknown"),
        (b"{\n  'model_type': 'llama'\n}", "unknown"),
        (b"widths: [16, 32, 64]\n", "unknown"),
        (b"train:\n  steps: 10\n", "unknown"),
        (b"a sentence\n", "unknown"),
        # tables
        (b"width,lr,loss\n64,0.1,3\n", "table"),
        (b"\xef\xbb\xbfwidth;lr;loss\n", "table"),
        (b"# made by hand\n\nwidth\tlr\tloss\n", "table"),
        (b'{"width": 64, "config": {"lr": 0.1}}\n', "table"),
        (b'{"width": ' + b"1" * 4086, "table"),
        (b'[\n  {"width": 64}\n]', "table"),
        (b"PAR1\x15\x04", "table"),
        (b"SQLite format 3\x00\x10", "table"),
        (gzip.compress(b"width,lr\n", mtime=0), "table"),
        ("width,lr\n".encode("utf-16"), "table"),
        # neither
        (b"\x89PNG\r\n\x1a\n\x00\x00", "binary"),
        (b"a\x00b", "binary"),
        ("width,lr ü".encode()[:-1], "table"),  # a letter cut in two at the end of what was read
    ],
)
def test_kinds_by_the_first_bytes(start: bytes, kind: Kind) -> None:
    assert kind_of_start(start) == kind


def test_a_folder_is_a_sweep_if_it_holds_records(tmp_path: Path) -> None:
    assert kind_of(tmp_path) == "folder"
    (tmp_path / "trials.jsonl").touch()
    assert kind_of(tmp_path) == "sweep"
    with pytest.raises(InputError, match="none: cannot be read"):
        kind_of(tmp_path / "none")


def test_stdin_can_be_read_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"width,lr\n64,0.1\n")))
    assert kind_of(None) == "table"
    assert sys.stdin.read() == "width,lr\n64,0.1\n"


def test_what_is_certainly_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    for content, refused in (
        ("width,lr\n", True),
        ("schema: mutransfer.sweep/1\n", False),
        ("no schema\n", False),
        ("", False),
    ):
        path.write_text(content)
        if refused:
            with pytest.raises(InputError, match="x: is a table of runs; give a sweep spec"):
                refuse_other(path, "a sweep spec", "spec")
        else:
            refuse_other(path, "a sweep spec", "spec")
