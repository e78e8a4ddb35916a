"""Conditions on rows."""

from __future__ import annotations

import pandas as pd
import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.where import quoted, rows_where

CELLS = pd.DataFrame(
    {
        "optimizer": ["adam", "muonh", "muonh", "and"],
        "depth": ["4", "4.0", "8", ""],
        "config/lr": [0.001, 0.002, 2**-9, 1],
        "max steps": [10, 10, 20, 20],
        "step": [10, 5, 20, 3],
        "done": [True, False, True, False],
    },
    dtype=object,
)


def rows(condition: str) -> list[int]:
    mask = rows_where(condition, CELLS, {"lr": "config/lr"}, "t.csv")
    return [position for position, there in enumerate(mask) if there]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("optimizer=muonh and depth=4", [1]),
        ("optimizer == 'muonh' & depth == 4", [1]),
        ("optimizer='and'", [3]),
        ("depth=4", [0, 1]),
        ("depth != 4", [2, 3]),
        ("depth>4", [2]),
        ("lr=2^-9", [2]),
        ("config/lr < 2e-3", [0, 2]),
        ("`max steps` = 20", [2, 3]),
        ("step = `max steps`", [0, 2]),
        ("depth in [4, 8]", [0, 1, 2]),
        ("optimizer not in (adam, and2)", [1, 2, 3]),
        ("not (optimizer=adam or depth=8)", [1, 3]),
        ("optimizer=adam or optimizer=muonh and depth=8", [0, 2]),
        ("done = true", [0, 2]),
    ],
)
def test_conditions_choose_rows(condition: str, expected: list[int]) -> None:
    assert rows(condition) == expected


@pytest.mark.parametrize(
    ("condition", "sentence"),
    [
        ("", "the end of '': expected a column"),
        ("depth", "the end of 'depth': expected =, !="),
        ("depth 4", "character 7 of 'depth 4': expected =, !=, .*found '4'"),
        ("depth=", "the end of 'depth=': expected a number, a text or a column"),
        ("depth=4)", "character 8 of .*: expected and, or, or the end, found '\\)'"),
        ("(depth=4", "the end of .*: expected \\)"),
        ("depth=4 and", "the end of .*: expected a column"),
        ("depth < small", "a number after <, <=, > or >=, found 'small'"),
        ("depth in 4", "expected a list such as \\[a, b\\], found '4'"),
        ("optimizer='adam", "character 11 of .*: a quote that is never closed"),
        ("optimzer=adam", "character 1 of .*: t.csv has no column 'optimzer'; .*'optimizer'"),
        ("optimizer=sgd", "no row of t.csv fulfils .*; optimizer holds adam, muonh, and"),
        ("__import__('os').system('x')", "has no column '__import__'"),
        ("depth.__class__ = 4", "has no column 'depth.__class__'"),
        ("(" * 100 + "depth=4" + ")" * 100, "at most 50 parentheses"),
    ],
)
def test_what_is_no_condition_is_refused_with_its_place(condition: str, sentence: str) -> None:
    with pytest.raises(InputError, match=f"^where: .*{sentence}"):
        rows(condition)


@pytest.mark.parametrize(
    ("column", "expected"),
    [("depth", "depth"), ("val/loss", "val/loss"), ("max steps", "`max steps`"), ("in", "`in`")],
)
def test_names_are_quoted_where_a_condition_needs_it(column: str, expected: str) -> None:
    assert quoted(column) == expected
