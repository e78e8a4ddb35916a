"""The norm before a tied readout takes the output multiplier, so that the logits stay."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mutransfer_cli.recipe.gains import with_gains
from mutransfer_cli.rules.plan import BaseParameter, BaseValues, plan
from mutransfer_cli.rules.rule import Rule

WTE = BaseParameter(
    "wte.weight", "embedding", (32, 16), (1,), 1.0, fan_in_axis=0, is_tied_readout=True
)
GAIN = BaseParameter("norm.weight", "vector", (16,), (0,), 0.0, 1.0, before_readout=True)
FOLDED = Rule("mup", folded=True)
VALUES = BaseValues(0.01, 0.1, 1e-8)


def test_the_gain_becomes_the_output_multiplier() -> None:
    tied, gain = plan(with_gains((WTE, GAIN), FOLDED, 4.0), FOLDED, 16, 64, VALUES)
    assert (tied.output_multiplier, tied.init_std, tied.lr) == (1.0, 1.0, 0.01)
    assert (gain.init_mean, gain.lr, gain.eps) == pytest.approx((0.25, 0.0025, 4e-8))


def test_nothing_moves_without_a_gain_that_the_plan_determines() -> None:
    for others in ((), (replace(GAIN, before_readout=False),), (replace(GAIN, keeps_draw=True),)):
        assert with_gains((WTE, *others), FOLDED, 4.0) == (WTE, *others)


def test_nothing_moves_without_a_tied_weight() -> None:
    apart = (replace(WTE, is_tied_readout=False), GAIN)
    assert with_gains(apart, FOLDED, 4.0) == apart


def test_one_multiplier_for_both_uses_leaves_the_gain_as_it_is() -> None:
    rule = Rule("standard", lr_rule="global", folded=True)
    assert plan(with_gains((WTE, GAIN), rule, 4.0), rule, 16, 64, VALUES) == plan(
        (WTE, GAIN), rule, 16, 64, VALUES
    )
