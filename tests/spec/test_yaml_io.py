"""YAML as people write it, atomic writes of results, and lines that the tool itself wrote."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mutransfer_cli.errors import InputError, StorageError
from mutransfer_cli.spec.measurements import CurveRecord
from mutransfer_cli.spec.yaml_io import (
    append_text,
    content_hash,
    dump_yaml,
    load_yaml,
    own_lines,
    parse_line,
    read_text,
    schema_file,
    write_result,
)


def test_lists_of_plain_values_are_written_on_one_line_in_the_given_order() -> None:
    text = dump_yaml({"b": (1, 2.5), "a": [{"c": None}]})
    assert text == "b: [1, 2.5]\na:\n- c: null\n"
    assert load_yaml(text, "x") == {"b": [1, 2.5], "a": [{"c": None}]}


def test_a_hash_does_not_depend_on_the_order_of_keys() -> None:
    whole = hashlib.sha256(b'{"a":[1,2.5],"b":null}').hexdigest()
    assert content_hash({"b": None, "a": [1, 2.5]}) == whole[:16]
    assert content_hash({"a": [1, 2.5], "b": None}, length=64) == whole


def test_a_result_replaces_a_file_and_leaves_no_other(tmp_path: Path) -> None:
    target = tmp_path / "result.yaml"
    target.write_text("old, and longer")
    write_result("new", target)
    append_text(", and more", target)
    assert read_text(target) == "new, and more"
    assert list(tmp_path.iterdir()) == [target]


def test_a_wrong_path_is_the_users_fault_and_a_full_disk_is_not(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a: cannot be written \(No such file") as found:
        write_result("x", tmp_path / "none" / "a")
    assert found.value.remedy == "output"
    with pytest.raises(StorageError, match=r"/dev/full: could not be written \(No space left"):
        write_result("x", Path("/dev/full"))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none: cannot be read \(No such file"):
        read_text(tmp_path / "none")
    (tmp_path / "latin").write_bytes(b"ab\xe9")
    with pytest.raises(InputError, match=r"latin: is not UTF-8 text \(byte 2\)"):
        read_text(tmp_path / "latin")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b'{"loss": NaN}', "x: not a JSON record .NaN is not JSON; a diverged trial has null"),
        (b"[1]", r"x: expected a JSON object, found \[1\]"),
        (b"\xff", "x: not a JSON record"),
    ],
)
def test_a_line_that_is_no_object_is_refused(line: bytes, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        parse_line(line, "x")


def test_own_lines_are_whole_and_wanted(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    lines = [CurveRecord(trial=t, step=(1,), train_loss=(2.0,)).model_dump_json() for t in "abc"]
    path.write_text("\n".join(lines))
    assert [found.trial for found in own_lines(path, CurveRecord, "curve")] == ["a", "b"]
    wanted = own_lines(path, CurveRecord, "curve", lambda line: b'"b"' in line)
    assert [found.trial for found in wanted] == ["b"]
    assert list(own_lines(tmp_path / "none", CurveRecord, "curve")) == []


def test_a_schema_is_a_file_beside_the_document() -> None:
    assert schema_file("mutransfer.sweep/1") == "mutransfer.sweep-1.schema.json"
