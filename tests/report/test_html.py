"""Numbers as they stand in a page."""

from __future__ import annotations

import pytest

from mutransfer_cli.report.html import number, power


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0078125, "2^-7"), (0.01, "2^-6.64"), (1 - 1e-9, "2^0"), (0.0, "0"), (None, "")],
)
def test_powers_of_two(value: float | None, text: str) -> None:
    assert power(value) == text


@pytest.mark.parametrize(("value", "text"), [(1.23456, "1.235"), (0.0, "0"), (None, "")])
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text
