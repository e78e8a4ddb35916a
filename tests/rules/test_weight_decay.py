from __future__ import annotations

from fractions import Fraction

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.rules.weight_decay import parse_decay_rule, to_independent, to_lr_coupled


def test_conventions_are_converted_there_and_back() -> None:
    """A step removes the fraction lr * wd in one convention and wd in the other."""
    assert to_independent(0.1, "lr_coupled", lr=0.01) == pytest.approx(0.001)
    assert to_lr_coupled(0.001, "independent", lr=0.01) == pytest.approx(0.1)
    assert to_lr_coupled(0.1, "lr_coupled", lr=0.01) == 0.1
    assert to_independent(0.1, "independent", lr=0.01) == 0.1


def test_a_rule_is_a_name_or_an_exponent() -> None:
    assert parse_decay_rule("sqrt_width") == "sqrt_width"
    assert parse_decay_rule("1/2") == parse_decay_rule("0.5") == Fraction(1, 2)
    with pytest.raises(InputError, match="rule sqrt: unknown; give none, constant, sqrt_width"):
        parse_decay_rule("sqrt")
