from __future__ import annotations

from dataclasses import replace

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.optim.listed import OPTIMIZERS
from mutransfer_cli.rules.choices import NONE
from mutransfer_cli.rules.rule import Rule, refuse_tied


@pytest.mark.parametrize(
    "rule",
    [
        Rule("standard", lr_rule="global"),
        Rule("standard", OPTIMIZERS["sgd"], lr_rule="global"),
        Rule("standard", OPTIMIZERS["adafactor"], NONE),  # its derived rates do not depend on width
    ],
)
def test_one_weight_can_be_both_where_both_get_the_same(rule: Rule) -> None:
    refuse_tied(rule)


def test_one_weight_decays_or_does_not() -> None:
    rule = Rule("standard", lr_rule="global", embedding_decay="as_hidden")
    refuse_tied(rule)
    with pytest.raises(InputError, match="embedding_decay as_hidden with readout_decay none"):
        refuse_tied(replace(rule, readout_decay="none"))


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        (Rule("standard"), r"standard with lr_rule per_layer .* a lr of width\^0 and .* width\^-1"),
        (Rule("ntk", lr_rule="global"), r"a multiplier of width\^0 and the .* width\^-1/2"),
        (Rule("mup", lr_rule="global"), r"a multiplier of width\^1/2 and the .* width\^-1/2"),
        (Rule("mean_field", lr_rule="global"), r"a multiplier of width\^0 and the .* width\^-1,"),
    ],
)
def test_else_it_is_refused_with_both_values(rule: Rule, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        refuse_tied(rule)
