from __future__ import annotations

from fractions import Fraction

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.rules.weight_decay import (
    DecayRule,
    decay_exponent,
    parse_decay_rule,
    to_independent,
    to_lr_coupled,
)

HALF = Fraction(1, 2)


def test_conventions_are_converted_there_and_back() -> None:
    """A step removes the fraction lr * wd in one convention and wd in the other."""
    assert to_independent(0.1, "lr_coupled", lr=0.01) == pytest.approx(0.001)
    assert to_lr_coupled(0.001, "independent", lr=0.01) == pytest.approx(0.1)
    assert to_lr_coupled(0.1, "lr_coupled", lr=0.01) == 0.1
    assert to_independent(0.1, "independent", lr=0.01) == 0.1


@pytest.mark.parametrize(
    ("rule", "coupled", "independent"),
    [
        ("none", None, None),
        ("constant", 0, 0),
        ("linear_width", 1, 0),
        ("sqrt_width", HALF, -HALF),
        (Fraction(1, 3), Fraction(1, 3), Fraction(1, 3)),
    ],
)
def test_exponents_where_lr_scales_as_one_over_width(
    rule: DecayRule, coupled: Fraction | None, independent: Fraction | None
) -> None:
    c, a = Fraction(1), Fraction(0)
    assert decay_exponent(rule, "lr_coupled", c, a) == coupled
    assert decay_exponent(rule, "independent", c, a) == independent


def test_a_rule_is_a_name_or_an_exponent() -> None:
    assert parse_decay_rule("sqrt_width") == "sqrt_width"
    assert parse_decay_rule("1/2") == parse_decay_rule("0.5") == Fraction(1, 2)
    with pytest.raises(InputError, match="rule sqrt: unknown; give none, constant, sqrt_width"):
        parse_decay_rule("sqrt")
