from __future__ import annotations

from typing import Any

import pytest

from mutransfer_cli.strict import parse_count, parse_number


@pytest.mark.parametrize(
    ("written", "value"),
    [(1, 1.0), (0.5, 0.5), ("3e-4", 3e-4), ("2^-9", 2**-9), ("2 ^ -0.5", 2**-0.5), ("-3", -3.0)],
)
def test_numbers_as_people_write_them(written: Any, value: float) -> None:
    assert parse_number(written) == value


@pytest.mark.parametrize("written", ["fast", "2^", "1e-4e", "0^-1", "(-2)^0.5", True, "-2^0.5"])
def test_what_is_not_a_number(written: Any) -> None:
    with pytest.raises(ValueError, match="expected a"):
        parse_number(written)


def test_counts() -> None:
    assert parse_count("1e5") == 100_000
    assert parse_count("2^16") == 65_536
    assert parse_count("64k") == parse_count("64,000") == parse_count(" 0.064 M ") == 64_000
    assert parse_count("1.1k") == 1_100
    assert parse_count(2**53 + 1) == 2**53 + 1
    with pytest.raises(ValueError, match=r"whole number, found 1\.5"):
        parse_count(1.5)
