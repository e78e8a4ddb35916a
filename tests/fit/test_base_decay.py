"""Applied weight decays and the base values that their rule makes of them."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pandas as pd
import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.base_decay import applied_exponent, refuse_another_rule, to_base
from mutransfer_cli.spec.protocol import DeclaredProtocol

HALF = Fraction(1, 2)


def protocol(**section: Any) -> DeclaredProtocol:
    """A protocol of base width 64 whose table holds applied values."""
    rule = {"name": "mup", "base_width": 64, "weight_decay": "linear_width"} | section
    return DeclaredProtocol.model_validate(
        {
            "schema": "mutransfer.protocol/1",
            "parameterization": rule,
            "weight_decay_values": "applied",
            "optimizer": {"name": "adamw"},
            "train": {"batch": 1, "steps": 10},
        }
    )


def table(decays: dict[int, list[float]]) -> pd.DataFrame:
    return pd.DataFrame(
        [{"width": width, "weight_decay": d} for width, some in decays.items() for d in some]
    )


@pytest.mark.parametrize(
    ("section", "exponent"),
    [
        ({"weight_decay": "constant"}, 0),
        ({"weight_decay": "linear_width"}, 1),
        ({"weight_decay": "linear_width", "decay_convention": "independent"}, 0),
        ({"weight_decay": "sqrt_width"}, HALF),
        ({"weight_decay": "sqrt_width", "decay_convention": "independent"}, -HALF),
        ({"weight_decay": "1/3"}, Fraction(1, 3)),
        ({"alignment": "none"}, HALF),
        ({"name": "ntk"}, HALF),
    ],
)
def test_it_is_converted_by_the_exponent_of_hidden_matrices(
    section: dict[str, Any], exponent: Fraction
) -> None:
    declared = protocol(**section)
    assert applied_exponent(declared) == exponent
    applied = table({width: [0.1 * (width / 64) ** float(exponent)] for width in (32, 64, 256)})
    assert to_base(applied, declared)["weight_decay"].tolist() == [0.1] * 3


def test_values_of_an_axis_and_zero_are_converted_each() -> None:
    applied = table({64: [0.0, 0.1, 0.2], 256: [0.0, 0.4, 0.8]})
    found = to_base(applied, protocol())
    assert found["weight_decay"].tolist() == [0.0, 0.1, 0.2] * 2
    assert applied["weight_decay"].max() == 0.8, "the rows given stay"


def test_values_that_were_rounded_are_one() -> None:
    """0.033 is 0.0333 rounded; the value of the base width stands for all."""
    found = to_base(table({64: [0.1], 21: [0.033], 192: [0.3], 448: [0.7]}), protocol())
    assert set(found["weight_decay"]) == {0.1}
    apart = to_base(table({64: [0.1, 0.102]}), protocol())
    assert set(apart["weight_decay"]) == {0.1, 0.102}


def test_a_rule_that_the_runs_contradict_is_refused() -> None:
    declared, applied = protocol(), table({64: [0.1], 256: [0.1], 512: [0.1]})
    found = to_base(applied, declared)
    message = (
        "^weight_decay_values applied: weight_decay linear_width converts 0.1 at width 64 to 0.1, "
        "0.1 at width 512 to 0.0125, and runs that followed it have one base value; name the rule"
    )
    with pytest.raises(InputError, match=message):
        refuse_another_rule(applied, [found], declared)
    refuse_another_rule(applied, [to_base(applied, protocol(weight_decay="constant"))], declared)
    axis = table({64: [0.1, 0.2], 256: [0.1, 0.2]})
    refuse_another_rule(axis, [to_base(axis, declared)], declared)
    each = table({64: [0.1, 0.2], 256: [0.4, 0.8]})
    based = to_base(each, declared)
    groups = [based.iloc[[0, 2]], based.iloc[[1, 3]]]
    refuse_another_rule(each, groups, declared)
    with pytest.raises(InputError, match=r"0\.2 at width 64 to 0\.2, 0\.4 at width 256 to 0\.1,"):
        refuse_another_rule(each, [based.iloc[[1, 2]]], declared)


def test_where_nothing_can_be_converted_it_is_refused() -> None:
    with pytest.raises(InputError, match="weight_decay none leaves no weight decay to convert"):
        to_base(table({64: [0.1]}), protocol(weight_decay="none"))
    with pytest.raises(InputError, match=r"has no column weight_decay to convert.*; say base$"):
        to_base(pd.DataFrame({"width": [64]}), protocol())
