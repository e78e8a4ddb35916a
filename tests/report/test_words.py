"""Numbers and names as a page writes them."""

from __future__ import annotations

import pytest

from mutransfer_cli.report.words import as_sentence, number, power, signed, words_of


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0078125, "2^-7"), (0.01, "2^-6.64"), (1 - 1e-9, "2^0"), (0.0, "0"), (None, "")],
)
def test_powers_of_two(value: float | None, text: str) -> None:
    assert power(value) == text


@pytest.mark.parametrize(("value", "text"), [(1.23456, "1.235"), (0.0, "0"), (None, "")])
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.12345, "+0.123"), (-1e-9, "+0.000"), (-0.5, "-0.500"), (None, "")]
)
def test_signed_numbers(value: float | None, text: str) -> None:
    assert signed(value) == text


def test_a_sentence_leaves_the_name_of_an_axis_as_it_is() -> None:
    assert as_sentence("add lower values") == "Add lower values."
    assert as_sentence("lr has too few values") == "lr has too few values."


def test_an_axis_in_words() -> None:
    assert words_of("lr") == "learning rate"
    assert words_of("lr_mult.hidden") == "factor lr_mult.hidden"
