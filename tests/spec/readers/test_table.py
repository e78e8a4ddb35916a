"""Flat rows, and tables of runs."""

from __future__ import annotations

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.readers.table import flat, last_of_each, rows_table, runs_table


def test_nested_keys_are_joined_by_points() -> None:
    nested = {"config": {"optim": {"lr": 0.1}, "tags": ["a", 1], "none": {}}, "loss": 3}
    assert flat(nested) == {
        "config.optim.lr": 0.1,
        "config.tags": '["a", 1]',
        "config.none": "{}",
        "loss": 3,
    }


def test_endless_nesting_is_refused() -> None:
    nested: dict[str, object] = {"a": 1}
    for _ in range(200):
        nested = {"a": nested}
    with pytest.raises(ValueError, match="more than 50 levels"):
        flat(nested)


def test_rows_may_lack_columns() -> None:
    cells = rows_table("t", "row", [{"width": 16}, {"lr": 0.1}]).cells
    assert cells.to_dict("list") == {"width": [16, None], "lr": [None, 0.1]}
    assert rows_table("t.json", "row", [{"width": 16}]).place(0) == "t.json row 1"


def test_runs_are_named() -> None:
    table = runs_table("here", {"a": {"lr": 1}, "b": {"lr": 2}}, result="lr")
    assert table.cells["run"].tolist() == ["a", "b"]
    assert (table.place(1), table.result) == ("here run b", "lr")
    with pytest.raises(InputError, match="here: holds no runs"):
        runs_table("here", {})


def test_the_last_value_of_each_metric_is_kept() -> None:
    rows: list[dict[str, object]] = [{"a": 1, "b": 5.0}, {"a": 2, "b": None}, {"a": "", "c": 0}]
    assert last_of_each(rows) == {"a": 2, "b": 5.0, "c": 0}
