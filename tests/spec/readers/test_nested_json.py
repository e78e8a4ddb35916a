"""JSON in the shapes in which people have it."""

from __future__ import annotations

import json

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.readers.nested_json import read_json

ROWS = [{"width": 16, "lr": 0.1}, {"width": 32, "lr": 0.2}]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        "\n".join(map(json.dumps, ROWS)),
        json.dumps({"created": "today", "runs": ROWS}, indent=2),
        json.dumps({"width": [16, 32], "lr": [0.1, 0.2]}),
        json.dumps({"width": {"0": 16, "1": 32}, "lr": {"0": 0.1, "1": 0.2}}),
        json.dumps({"columns": ["width", "lr"], "index": [0, 1], "data": [[16, 0.1], [32, 0.2]]}),
    ],
    ids=["list", "pretty", "lines", "list in an object", "columns", "pandas", "split"],
)
def test_every_shape_gives_the_same_rows(text: str) -> None:
    assert read_json(text, "t").cells.to_dict("records") == ROWS


def test_runs_by_name_keep_it() -> None:
    table = read_json('{"a": {"lr": 0.1}, "b": {"lr": 0.2}}', "t")
    assert table.cells.to_dict("list") == {"run": ["a", "b"], "lr": [0.1, 0.2]}


def test_nested_keys_and_single_rows() -> None:
    row = {"config": {"lr": 0.1, "model": {"width": 16}}, "loss": 3}
    flat = [{"config.lr": 0.1, "config.model.width": 16, "loss": 3}]
    for text in (json.dumps(row), json.dumps(row, indent=2), json.dumps([row])):
        assert read_json(text, "t").cells.to_dict("records") == flat


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[\n {},\n {\n]", "t line 4: not JSON .*correct the list there"),
        ('[{"lr": 1}, 2]', "t row 2: expected a JSON object, found 2"),
        ('{"lr": 1}\n{"lr": \n', "t line 2: not JSON .*write one object per line, or one list"),
        ('{"lr": [1, 2], "width": [1]}', "t: columns differ in length .lr 2, width 1."),
        ("[" * 100_000, "t: not JSON"),
    ],
)
def test_the_place_of_an_error_is_named(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read_json(text, "t")
