"""The section as written, and the exact rule that it denotes."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.optim.adamw import AdamWSpec
from mutransfer_cli.optim.sgd import SGDSpec
from mutransfer_cli.rules.choices import FULL, LayerAlignment
from mutransfer_cli.spec.parameterization import ParameterizationSpec
from mutransfer_cli.strict import validated


def section(**keys: Any) -> ParameterizationSpec:
    return validated(ParameterizationSpec, {"name": "mup", "base_width": 64} | keys, "x")


def test_exponents_are_exact_however_they_are_written() -> None:
    found = section(weight_decay=" 1/3 ", alignment={"hidden": {"alpha": 0.1, "omega": 0, "u": 1}})
    rule = found.rule(AdamWSpec())
    assert rule.weight_decay == Fraction(1, 3)
    assert rule.alignment.hidden == LayerAlignment(Fraction(1, 10), Fraction(0), Fraction(1))
    assert rule.alignment.readout == FULL.readout
    assert section(weight_decay=0.5).rule(AdamWSpec()).weight_decay == Fraction(1, 2)
    assert section(weight_decay="sqrt_width").weight_decay == "sqrt_width"


def test_embedding_decay_is_written_only_where_it_is_asked_for() -> None:
    plain = section(readout_decay="none")
    assert plain == section(readout_decay="none", embedding_decay="none")
    assert "embedding_decay" not in plain.model_dump()
    asked = section(embedding_decay="as_hidden")
    assert asked.model_dump()["embedding_decay"] == "as_hidden"
    rules = [found.rule(AdamWSpec()) for found in (plain, asked)]
    assert [rule.decays("embedding") for rule in rules] == [False, True]


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"weight_decay": 11}, "weight_decay: .*11"),
        ({"weight_decay": "half"}, "weight_decay: .*half"),
        ({"alignment": "fulll"}, r"unknown alignment 'fulll' \(valid: full, none, or a mapping"),
        ({"alignment": {"embedding": {}}}, "alignment: unknown key 'embedding'"),
        ({"base_width": "2^54"}, "base_width: expected at most 9007199254740992"),
        ({"epsilon": "per_role"}, "epsilon: "),
        ({"embedding_decay": "constant"}, "embedding_decay: .*unknown 'constant'"),
    ],
)
def test_a_wrong_value_is_named(keys: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=f"(?s)^x: .*{sentence}"):
        section(**keys)


def test_a_rule_that_the_optimizer_cannot_follow_is_refused() -> None:
    with pytest.raises(InputError, match="epsilon per_layer: sgd divides by nothing"):
        section(epsilon="per_layer").rule(SGDSpec(name="sgd"))
