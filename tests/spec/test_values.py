"""Values as people write them."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.tables import Table
from mutransfer_cli.spec.values import (
    as_numbers,
    is_blank,
    is_empty,
    number,
    numbers,
    ordered,
    plain,
    settled,
)


def series(*cells: Any) -> pd.Series[Any]:
    return pd.Series(list(cells), dtype=object)


def table(*cells: Any) -> Table:
    return Table("t.csv", "line", pd.DataFrame({"x": series(*cells)}, index=range(len(cells))))


@pytest.mark.parametrize("cell", [3, "3", " 3.0 ", "0.3e1", "3e0"])
def test_numbers_have_many_forms(cell: Any) -> None:
    assert number(cell) == 3


def test_powers_and_grouped_digits_are_numbers() -> None:
    assert number("2^-9") == 2**-9
    assert number("10_000") == 10_000


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("0,001", r"found '0,001' \(a decimal comma\? write 0.001\)"),
        (",5", r"a decimal comma\? write 0.5"),
        ("1x", r"\(write the number alone: 1\)"),
        ("64 (small)", r"\(write the number alone: 64\)"),
        ("61.7%", r"\(write the number alone: 61.7\)"),
        ("\u2014", r"\(where there is no value, leave the cell empty\)"),
        ("fast", "expected a number such as 0.001, 3e-4 or 2.-9, found 'fast'$"),
        ("1_0", "expected a number"),
        (True, "expected a number, found true"),
    ],
)
def test_what_is_no_number_is_refused_with_a_hint(cell: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        number(cell)
    with pytest.raises(InputError, match=f"t.csv line 1: x: .*{sentence.rstrip('$')}"):
        numbers(table(1, cell), "x", series(1, cell))


@pytest.mark.parametrize("cell", ["", " ", "NaN", "None", "N/A", None, math.nan, pd.NA, pd.NaT])
def test_cells_can_be_empty(cell: Any) -> None:
    assert is_empty(cell)
    assert math.isnan(number(cell))


def test_the_word_nan_is_a_record() -> None:
    assert [is_blank(cell) for cell in ("nan", "", None, math.nan, 3)] == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_equal_numbers_are_equal_texts() -> None:
    assert plain(series("1e4", 10_000, "10_000", "a ", None)).tolist() == [
        *["10000"] * 3,
        "a",
        None,
    ]


def test_sizes_that_jitter_are_one() -> None:
    tokens = settled(series(10_000_005, 9_999_997, "1e7", "1e7", 20_000_000, "", "small"))
    assert tokens.tolist() == [*["10000000"] * 4, "20000000", None, "small"]


def test_texts_are_no_numbers() -> None:
    assert as_numbers(series("a", 2, "3")).fillna(-1).tolist() == [-1, 2, 3]


def test_numbers_and_times_order_rows() -> None:
    assert ordered(table(1, "20"), "x").tolist() == [1, 20]
    times = ordered(table("2026-01-02", "2026-01-01 10:00:00", "2026-01-01T10:00:01Z"), "x")
    assert times.rank().tolist() == [3, 1, 2]
    with pytest.raises(
        InputError, match=r"t.csv line 1: x: expected a number or a time .*found ''"
    ):
        ordered(table("2026-01-02", ""), "x")
