from __future__ import annotations

from dataclasses import replace

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.optim.listed import OPTIMIZERS
from mutransfer_cli.rules.choices import PARAMETERIZATIONS, ParameterizationName
from mutransfer_cli.rules.plan import BaseParameter, BaseValues, plan
from mutransfer_cli.rules.rule import Rule
from mutransfer_cli.rules.weight_decay import DecayRuleName

BASE = (
    BaseParameter("embedding.weight", "embedding", (256, 32), (1,), 1.0),
    BaseParameter("up.weight", "hidden", (128, 32), (0, 1), 32**-0.5),
    BaseParameter("readout.weight", "readout", (256, 32), (1,), 32**-0.5),
)
VALUES = BaseValues(lr=0.01, weight_decay=0.1, eps=1e-8)


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_at_the_base_width_every_parameterization_is_the_plain_model(
    parameterization: ParameterizationName,
) -> None:
    rule = Rule(parameterization, weight_decay="sqrt_width", epsilon="per_layer")
    for base, here in zip(BASE, plan(BASE, rule, 32, 32, VALUES), strict=True):
        assert (here.name, here.shape) == (base.name, base.shape)
        assert (here.init_std, here.multiplier) == (base.init_std, 1.0)
        assert (here.lr, here.eps) == (0.01, 1e-8)
        assert here.weight_decay == (0.0 if base.role == "embedding" else 0.1)


def test_mup_at_four_times_the_width() -> None:
    embedding, hidden, readout = plan(BASE, Rule("mup"), 32, 128, VALUES)
    assert (embedding.shape, hidden.shape, readout.shape) == ((256, 128), (512, 128), (256, 128))
    assert (embedding.multiplier, hidden.multiplier, readout.multiplier) == (2.0, 1.0, 0.5)
    assert (embedding.lr, hidden.lr, readout.lr) == pytest.approx((0.005, 0.0025, 0.005))
    assert hidden.init_std == pytest.approx(128**-0.5)
    assert (embedding.weight_decay, hidden.weight_decay) == pytest.approx((0.0, 0.4))


def test_a_global_rate_changes_only_the_init_of_standard() -> None:
    rule = Rule("standard", lr_rule="global")
    for base, here in zip(BASE, plan(BASE, rule, 32, 128, VALUES), strict=True):
        assert (here.lr, here.multiplier) == (0.01, 1.0)
        assert here.init_std == (base.init_std if base.role == "embedding" else 128**-0.5)


def test_gamma_multiplies_the_rate_of_its_role_at_every_width() -> None:
    values = BaseValues(0.01, 0.1, 1e-8, lr_mult={"hidden": 4.0})
    for width in (32, 128):
        plain, tuned = (plan(BASE, Rule("mup"), 32, width, v) for v in (VALUES, values))
        ratios = [t.lr / p.lr for t, p in zip(tuned, plain, strict=True)]
        assert ratios == pytest.approx([1, 4, 1])


def test_independent_decay_does_not_know_of_rates() -> None:
    """The plan's convention is lr_coupled, so a higher rate gets a smaller weight decay."""
    rule = Rule("mup", decay_convention="independent")
    for lr in (0.01, 0.04):
        values = BaseValues(lr, 1e-3, 1e-8, lr_mult={"hidden": 2.0})
        for planned in plan(BASE, rule, 32, 128, values)[1:]:
            assert planned.independent == pytest.approx(1e-3)


def test_epsilon_shrinks_with_the_gradient() -> None:
    rule = Rule("ntk", epsilon="per_layer")
    eps = [planned.eps for planned in plan(BASE, rule, 32, 128, VALUES)]
    assert eps == pytest.approx([1e-8 / 2, 1e-8 / 4, 1e-8 / 2])
    values = BaseValues(0.01, 0.1, None)
    assert {p.eps for p in plan(BASE, Rule("ntk", OPTIMIZERS["adam_atan2"]), 32, 128, values)} == {
        None
    }


def test_gamma_for_a_role_that_the_model_lacks_is_refused() -> None:
    values = BaseValues(0.01, 0.1, 1e-8, lr_mult={"embedding": 2.0})
    with pytest.raises(InputError, match=r"lr_mult\.embedding: found 2, and the model has no emb"):
        plan(BASE[1:], Rule("mup"), 32, 128, values)


def test_a_parameter_in_two_places_is_refused() -> None:
    with pytest.raises(InputError, match=r"up\.weight: is in the plan twice"):
        plan([*BASE, BASE[1]], Rule("mup"), 32, 128, VALUES)


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_an_init_exponent_is_that_of_weight_times_multiplier(
    parameterization: ParameterizationName, folded: bool
) -> None:
    """The readout then starts at width^-1/2 under every rule, and nothing else changes."""
    rule = Rule(parameterization, folded=folded)
    own = [replace(p, init_exponent=-0.5) if p.role == "readout" else p for p in BASE]
    *others, readout = plan(own, rule, 32, 128, VALUES)
    *as_before, by_rule = plan(BASE, rule, 32, 128, VALUES)
    assert others == as_before
    assert readout.init_std is not None
    assert readout.init_std * readout.multiplier == pytest.approx(128**-0.5)
    assert replace(readout, init_std=by_rule.init_std) == by_rule
    assert (readout.init_std == by_rule.init_std) == (parameterization in ("standard", "ntk"))


def test_a_gamma_of_1_for_a_role_that_the_model_lacks_is_nothing() -> None:
    values = replace(VALUES, lr_mult={"embedding": 1.0})
    assert plan(BASE[1:], Rule("mup"), 32, 128, values) == plan(
        BASE[1:], Rule("mup"), 32, 128, VALUES
    )


@pytest.mark.parametrize("shapes", [None, {"mix.weight": (128, 128, 128)}])
def test_a_bilinear_product_sums_over_the_width_squared(
    shapes: dict[str, tuple[int, ...]] | None,
) -> None:
    bilinear = BaseParameter(
        "mix.weight",
        "hidden",
        (32, 32, 32),
        (0, 1, 2),
        1.0,
        fan_in_axis=1,
        further_fan_in_axes=(2,),
    )
    (planned,) = plan([bilinear], Rule("mup"), 32, 128, VALUES, shapes)
    assert planned.init_std == pytest.approx(4**-1)
    assert planned.lr == pytest.approx(0.01 * 4**-2)
    (linear,) = plan([replace(bilinear, further_fan_in_axes=())], Rule("mup"), 32, 128, VALUES)
    assert (linear.init_std, linear.lr) == pytest.approx((4**-0.5, 0.01 * 4**-1))


def test_a_draw_that_is_kept_is_said() -> None:
    gain = BaseParameter("norm.weight", "vector", (32,), (0,), 0.1, 1.0, keeps_draw=True)
    planned = plan([*BASE, gain], Rule("mup"), 32, 128, VALUES)
    assert [p.keeps_draw for p in planned] == [False, False, False, True]


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("name", ["constant", "linear_width", "sqrt_width"])
def test_an_embedding_inside_the_model_decays(name: DecayRuleName, folded: bool) -> None:
    """As the own rate of an embedding says, by linear_width where the rule does not know it."""
    rule = Rule("mup", weight_decay=name, folded=folded)
    inside = replace(BASE[0], in_block=True)
    outer, inner, hidden = (plan([p], rule, 32, 128, VALUES)[0] for p in (BASE[0], inside, BASE[1]))
    known: DecayRuleName = "linear_width" if name == "sqrt_width" else name
    asked = Rule("mup", weight_decay=known, embedding_decay="as_hidden", folded=folded)
    assert inner == plan([BASE[0]], asked, 32, 128, VALUES)[0]
    assert outer.weight_decay == 0.0
    assert inner.weight_decay
    assert hidden.weight_decay
    if name != "constant":
        assert inner.lr * inner.weight_decay == pytest.approx(0.01 * 0.1)
    assert replace(inner, weight_decay=0.0) == outer


def test_nothing_decays_inside_a_model_without_weight_decay() -> None:
    inside = replace(BASE[0], in_block=True)
    (planned,) = plan([inside], Rule("mup", weight_decay="none"), 32, 128, VALUES)
    assert planned.weight_decay == 0.0
