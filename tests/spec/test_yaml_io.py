"""YAML as people write it, atomic writes of results, and lines that the tool itself wrote."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mutransfer_cli.errors import InputError, StorageError
from mutransfer_cli.spec.measurements import CurveRecord
from mutransfer_cli.spec.yaml_io import (
    Unquoted,
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


def test_only_unquoted_powers_are_marked_as_possible_numbers() -> None:
    found = load_yaml("[2^-9, 3e-4, '3e-4', 1.5, 2 ^ 3]", "x")
    assert found == ["2^-9", "3e-4", "3e-4", 1.5, "2 ^ 3"]
    assert [isinstance(value, Unquoted) for value in found] == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (" \n", "x: is empty; nothing reached it"),
        ("a: 1\nb: [1\nc: 2\n", r"x line 2, column 4: not YAML: this \[ is not closed"),
        ("a: {b: 1\nc: 2\n", "x line 1, column 4: not YAML: this { is not closed"),
        ("a:\n\tb: 1\n", "x line 2, column 1: not YAML: a tab stands where blanks belong"),
        ("a: 'b\nc: 2\n", "x line 1, column 4: not YAML: this quote is not closed"),
        ("a:1\nb: 2\n", "x line 2, column 2: not YAML: no key stands before this colon"),
        ("a: 1\n  b: 2\n", "x line 2, column 4: not YAML: no key .* indented too far"),
        ("a: @b\n", "x line 1, column 4: not YAML: no text begins with this character"),
        ("a: [1]]\n", "x line 1, column 7: not YAML: this line .* bracket is closed twice"),
        ("a: 1\nb: {c: 1, c: 2}\n", "x line 2, column 4: not YAML .key 'c' is written twice"),
        (
            "a: !!python/object:os.system {}",
            "x line 1, column .: not YAML .could not determine a constructor",
        ),
        ("a: 2001-99-99", "x: not YAML .month must be in 1..12"),
    ],
)
def test_what_is_not_yaml_is_named_with_its_line(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        load_yaml(text, "x")


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
        (b"[1]", "x: expected a JSON object, found list"),
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
