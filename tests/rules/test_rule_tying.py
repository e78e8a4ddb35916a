from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.optim.listed import OPTIMIZERS
from mutransfer_cli.rules.choices import NONE, LrRule, ParameterizationName
from mutransfer_cli.rules.plan import BaseParameter, BaseValues, plan
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
    refuse_tied(rule, has_output_multiplier=False)
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
        refuse_tied(rule, has_output_multiplier=False)
    refuse_tied(rule)


NAMES = get_args(ParameterizationName)
TIED = BaseParameter(
    "wte.weight", "embedding", (256, 32), (1,), 1.0, fan_in_axis=0, is_tied_readout=True
)


@pytest.mark.parametrize(
    ("name", "lr_rule", "output", "init"),
    [
        ("standard", "per_layer", -1, 0),
        ("standard", "global", 0, -0.5),  # as for the built-in model's readout
        ("ntk", "per_layer", -1, 0),
        ("ntk", "global", -0.5, 0),
        ("mup", "per_layer", -0.5, -0.5),
        ("mup", "global", -0.5, -0.5),
        ("mean_field", "per_layer", -1, 0),
        ("mean_field", "global", -1, 0),
    ],
)
def test_output_multipliers_of_tied_weights(
    name: ParameterizationName, lr_rule: LrRule, output: float, init: float
) -> None:
    rule = Rule(name, lr_rule=lr_rule)
    refuse_tied(rule)
    (planned,) = plan([TIED], rule, 32, 128, BaseValues(0.01, 0.1, 1e-8))
    assert planned.output_multiplier == pytest.approx(4**output)
    assert planned.init_std == pytest.approx(4**init)


def test_the_tied_weight_of_mup_is_the_embedding_and_a_readout_over_the_width() -> None:
    """Yang & Hu 2022 (arXiv 2203.03466), Table 8: a constant init and rate, and 1 / n."""
    (planned,) = plan([TIED], Rule("mup", folded=True), 32, 128, BaseValues(0.01, 0.1, 1e-8))
    assert (planned.init_std, planned.lr, planned.multiplier) == (1.0, 0.01, 1.0)
    assert planned.output_multiplier == 0.25


@pytest.mark.parametrize("optimizer", ["adamw", "lion", "adam_atan2", "muon"])
@pytest.mark.parametrize("lr_rule", get_args(LrRule))
@pytest.mark.parametrize("name", NAMES)
def test_both_uses_of_a_tied_weight_move_as_the_rules_own(
    name: ParameterizationName, lr_rule: LrRule, optimizer: str
) -> None:
    """Updates of size lr, times the multiplier of each use; the logits at init are no larger."""
    rule = Rule(name, OPTIMIZERS[optimizer], lr_rule=lr_rule)
    apart = (
        replace(TIED, is_tied_readout=False),
        BaseParameter("head.weight", "readout", (256, 32), (1,), 1.0, fan_in_axis=1),
    )
    values = BaseValues(0.01, 0.1, None)
    embedding, readout = plan(apart, rule, 32, 128, values)
    for folded in (False, True):
        (tied,) = plan([TIED], replace(rule, folded=folded), 32, 128, values)
        assert tied.output_multiplier is not None
        assert tied.init_std is not None
        assert readout.init_std is not None
        assert tied.lr * tied.multiplier == pytest.approx(embedding.lr * embedding.multiplier)
        assert tied.lr * tied.output_multiplier == pytest.approx(readout.lr * readout.multiplier)
        logits = tied.init_std * tied.output_multiplier
        assert logits <= readout.init_std * readout.multiplier * (1 + 1e-9)


def test_a_models_own_factor_on_the_embedding_is_not_one_on_the_logits() -> None:
    """Gemma's code multiplies embeddings by width^1/2."""
    values, own = BaseValues(0.01, 0.1, None), replace(TIED, own_multiplier=0.5)
    for folded in (False, True):
        rule = Rule("mup", folded=folded)
        (with_own,), (plain,) = (plan([p], rule, 32, 128, values) for p in (own, TIED))
        assert plain.output_multiplier is not None
        assert with_own.output_multiplier is not None
        # what the embedding and the logits see
        embedding = [with_own.multiplier * with_own.lr * 4**0.5, plain.multiplier * plain.lr]
        logits = [with_own.output_multiplier * with_own.lr, plain.output_multiplier * plain.lr]
        assert embedding[0] == pytest.approx(embedding[1])
        assert logits[0] == pytest.approx(logits[1])


def test_a_models_own_factor_on_the_logits_is_divided_out() -> None:
    values, own = BaseValues(0.01, 0.1, None), replace(TIED, own_output_multiplier=-0.5)
    for folded in (False, True):
        rule = Rule("mup", folded=folded)
        (with_own,), (plain,) = (plan([p], rule, 32, 128, values) for p in (own, TIED))
        assert plain.output_multiplier == pytest.approx((with_own.output_multiplier or 0) / 2)
        assert replace(with_own, output_multiplier=plain.output_multiplier) == plain


@pytest.mark.parametrize("optimizer", ["sgd", "adafactor"])
@pytest.mark.parametrize("folded", [False, True])
def test_tied_weights_need_updates_of_fixed_size(optimizer: str, folded: bool) -> None:
    rule = Rule("mup", OPTIMIZERS[optimizer], folded=folded)
    with pytest.raises(InputError, match=f"tied weights: under mup .* updates of {optimizer}"):
        plan([TIED], rule, 32, 128, BaseValues(0.01, 0.1, None))
    plan(
        [TIED],
        replace(rule, parameterization="standard", lr_rule="global"),
        32,
        64,
        BaseValues(0.01, 0.1, None),
    )
