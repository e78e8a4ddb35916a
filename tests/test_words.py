"""Numbers and names as people read them."""

from __future__ import annotations

from typing import get_args

import pytest

from mutransfer_cli.fit.exponents import Axis
from mutransfer_cli.fit.optimum import OptimumStatus
from mutransfer_cli.words import (
    STATUSES,
    as_sentence,
    digits,
    duration,
    listed,
    loss,
    percent,
    power,
    raised,
    rate,
    rate_and_power,
    signed,
    with_sign,
    words_of,
    words_of_status,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0078125, "2^-7"), (0.01, "2^-6.64"), (1 - 1e-9, "2^0"), (0.0, "0"), (None, "")],
)
def test_powers_of_two(value: float | None, text: str) -> None:
    assert power(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.033, "0.0330"),
        (0.018451, "0.0185"),
        (3e-4, "0.000300"),
        (3e-5, "3.00e-05"),
        (128.0, "128"),
        (0.0, "0"),
        (None, ""),
    ],
)
def test_rates_have_three_digits(value: float | None, text: str) -> None:
    assert rate(value) == text


@pytest.mark.parametrize(("value", "text"), [(2.63, "2.630"), (11.234, "11.23"), (None, "")])
def test_losses_have_four_digits(value: float | None, text: str) -> None:
    assert loss(value) == text


def test_digits_are_counted() -> None:
    assert digits(2.5, 6) == "2.50000"


def test_a_rate_with_its_power_of_two() -> None:
    assert rate_and_power(2**-5.76) == "0.0185 (2^-5.76)"
    assert rate_and_power(0.0) == "0"
    assert rate_and_power(None) == ""


@pytest.mark.parametrize(
    ("log2", "text"), [(-5.76, "2⁻⁵·⁷⁶"), (-7.0, "2⁻⁷"), (-0.0, "2⁰"), (10.0, "2¹⁰")]
)
def test_powers_in_figures_are_raised(log2: float, text: str) -> None:
    assert raised(log2) == text


@pytest.mark.parametrize(("share", "text"), [(0.95, "95%"), (0.025, "2.5%")])
def test_percentages_follow_their_number(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.12345, "+0.123"), (-1e-9, "+0.000"), (-0.5, "-0.500"), (None, "")]
)
def test_signed_numbers(value: float | None, text: str) -> None:
    assert signed(value) == text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (60, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3599.6, "1 h 00 min"),
        (15000, "4 h 10 min"),
    ],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_sentence_leaves_the_name_of_an_axis_as_it_is() -> None:
    assert as_sentence("add lower values") == "Add lower values."
    assert as_sentence("lr has too few values") == "lr has too few values."


def test_an_axis_in_words() -> None:
    assert words_of("lr") == "learning rate"
    assert words_of("lr_mult.hidden") == "factor lr_mult.hidden"


def test_a_list_in_a_sentence() -> None:
    assert [listed(items) for items in (["a"], "ab", "abc")] == ["a", "a and b", "a, b and c"]


@pytest.mark.parametrize(("value", "text"), [(0.0025, "+0.00250"), (-1.5, "-1.50"), (0.0, "+0")])
def test_numbers_of_any_size_with_a_sign(value: float, text: str) -> None:
    assert with_sign(value) == text


def test_every_status_of_an_optimum_and_of_a_fit_has_words() -> None:
    statuses = {*get_args(OptimumStatus), *get_args(Axis.model_fields["status"].annotation)}
    assert statuses == set(STATUSES)
    assert words_of_status("not_bracketed", "high") == "beyond the highest"
    assert not any("_" in words_of_status(status) for status in statuses)
