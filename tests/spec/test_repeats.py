"""Rows of one run."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.repeats import (
    cells_of,
    latest,
    refuse_contradictions,
    refuse_ties,
    without_exact_repeats,
)

KEY = ["width", "lr", "seed"]


def frame(*rows: tuple[Any, ...]) -> pd.DataFrame:
    index = pd.MultiIndex.from_tuples([(0, 2 + at) for at in range(len(rows))])
    return pd.DataFrame(rows, index=index, columns=[*KEY, "loss"])


def test_rates_that_differ_by_rounding_are_one_cell() -> None:
    table = frame((64, 9.77e-4, 0, 3.0), (64, 0.0009765625, 0, 3.0), (64, 0.002, 0, 3.0))
    assert cells_of(table, KEY).tolist() == [0, 0, 1]
    assert len(without_exact_repeats(table, KEY)) == 2


def test_close_rates_of_a_random_search_are_different_cells() -> None:
    table = frame((64, 0.00123456, 0, 3.0), (64, 0.00123987, 0, 2.0))
    refuse_contradictions(table, KEY, ["t.csv line"])


def test_a_run_with_two_losses_is_refused_with_both_lines() -> None:
    table = frame((64, 9.77e-4, 0, 3.0), (64, 0.0009765625, 0, 2.0))
    assert len(without_exact_repeats(table, KEY)) == 2
    sentence = "t.csv line 2 and t.csv line 3: the same run .width 64, .* with losses 3.0 and 2.0"
    with pytest.raises(InputError, match=sentence) as found:
        refuse_contradictions(table, KEY, ["t.csv line"])
    assert found.value.remedy == "keep last:COLUMN"
    refuse_contradictions(table.iloc[:1], KEY, ["t.csv line"])


def kept(order: list[float], recorded: list[bool], run: list[int]) -> list[bool]:
    table = frame(*[(64, 0.1, 0, 3.0)] * len(order))
    at = table.index
    return latest(pd.Series(run, at), pd.Series(order, at), pd.Series(recorded, at)).tolist()


def test_the_last_row_of_each_run_is_kept() -> None:
    assert kept([1, 2, 3, 1], [True] * 4, [0, 0, 0, 1]) == [False, False, True, True]


def test_rows_that_are_equally_late_stay_together() -> None:
    assert kept([1, 2, 2], [True] * 3, [0, 0, 0]) == [False, True, True]


def test_rows_that_recorded_nothing_are_never_the_last_of_a_run_that_did() -> None:
    assert kept([1, 2], [True, False], [0, 0]) == [True, False]
    assert kept([1, 2], [False, False], [0, 0]) == [False, True]


def test_attempts_that_are_equally_late_are_refused() -> None:
    table = frame((64, 0.1, 0, 3.0), (64, 0.1, 0, 2.0))
    with pytest.raises(InputError, match=r"with losses 3.0 and 2.0 and the same created_at"):
        refuse_ties(table, KEY, "created_at", ["t.csv line"])
    refuse_ties(table.assign(loss=3.0), KEY, "created_at", ["t.csv line"])
