"""Exponents that a rule gives each role, and what folding leaves unchanged."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.optim.listed import OPTIMIZERS
from mutransfer_cli.rules.choices import (
    MATRIX_ROLES,
    NONE,
    PARAMETERIZATIONS,
    ParameterizationName,
    Role,
)
from mutransfer_cli.rules.rule import Rule, folding_limits, role_exponents
from mutransfer_cli.rules.weight_decay import DecayRule

HALF = Fraction(1, 2)


@pytest.mark.parametrize(
    ("parameterization", "role", "init_std", "multiplier", "lr", "gradient"),
    [
        ("standard", "embedding", 0, 0, 0, -HALF),
        ("standard", "hidden", -HALF, 0, -1, -HALF),
        ("standard", "vector", 0, 0, 0, -HALF),
        ("ntk", "hidden", 0, -HALF, -HALF, -1),
        ("mup", "embedding", -HALF, HALF, -HALF, -HALF),
        ("mup", "readout", -HALF, -HALF, -HALF, -HALF),
        ("mup", "vector", 0, 0, 0, -1),
        ("mean_field", "readout", 0, -1, 0, -1),
        ("mean_field", "vector", 0, 0, 0, -1),
        ("mup", "scalar", 0, 0, 0, None),
    ],
)
def test_exponents_under_adam(
    parameterization: ParameterizationName,
    role: Role,
    init_std: Fraction,
    multiplier: Fraction,
    lr: Fraction,
    gradient: Fraction | None,
) -> None:
    x = role_exponents(Rule(parameterization), role)
    assert (x.init_std, x.multiplier, x.lr, x.gradient) == (init_std, multiplier, lr, gradient)


@pytest.mark.parametrize(
    ("parameterization", "lr"), [("standard", HALF), ("ntk", HALF), ("mup", 1), ("mean_field", 1)]
)
def test_a_vector_under_sgd_is_an_embedding_without_multiplier(
    parameterization: ParameterizationName, lr: Fraction
) -> None:
    assert role_exponents(Rule(parameterization, OPTIMIZERS["sgd"]), "vector").lr == lr
    assert role_exponents(Rule(parameterization, OPTIMIZERS["adafactor"]), "vector").lr == 0
    assert role_exponents(Rule(parameterization, OPTIMIZERS["sgd"]), "scalar").lr == 0


@pytest.mark.parametrize(
    ("optimizer", "alignment", "expected"),
    [
        ("adam", "full", (-1, -HALF, -1, -HALF)),
        ("adam", "none", (-HALF, 0, -HALF, 0)),
        ("sgd", "full", (-1, 0, 0, 1)),
        ("adafactor", "full", (-HALF, -HALF, -HALF, -HALF)),
        ("adafactor", "none", (0, 0, 0, 0)),
    ],
)
def test_a_global_rate_is_left_to_the_sweep_and_its_exponent_is_expected(
    optimizer: str, alignment: str, expected: tuple[Fraction, ...]
) -> None:
    for name, exponent in zip(PARAMETERIZATIONS, expected, strict=True):
        rule = Rule(name, OPTIMIZERS[optimizer], lr_rule="global")
        if alignment == "none":
            rule = replace(rule, alignment=NONE)
        assert rule.expected_base_lr_exponent == exponent
        assert {role_exponents(rule, role).lr for role in MATRIX_ROLES} == {0}
        assert replace(rule, lr_rule="per_layer").expected_base_lr_exponent == 0


def decay(rule: Rule, role: Role = "hidden") -> Fraction | None:
    return role_exponents(rule, role).weight_decay


def test_fan_et_al_in_their_own_terms() -> None:
    """Weight decay scales as sqrt(d) for lr ~ 1/d, and as d for lr ~ d^-1/2 (no alignment)."""
    fan = Rule("mup", weight_decay="sqrt_width")
    assert decay(fan) == HALF
    assert decay(replace(fan, alignment=NONE)) == 1
    assert decay(Rule("ntk", weight_decay="sqrt_width")) == 0
    assert decay(replace(fan, decay_convention="independent")) == -HALF
    # one global rate scales as 1/d by itself
    assert decay(Rule("standard", weight_decay="sqrt_width", lr_rule="global")) == HALF


@pytest.mark.parametrize(
    ("rule", "coupled", "independent"),
    [
        ("none", None, None),
        ("constant", 0, 0),
        ("linear_width", 1, 0),
        (Fraction(1, 3), Fraction(1, 3), Fraction(1, 3)),
    ],
)
def test_decay_rules(rule: str, coupled: Fraction | None, independent: Fraction | None) -> None:
    lr_coupled = Rule("mup", weight_decay=rule)  # type: ignore[arg-type]
    assert decay(lr_coupled) == coupled
    assert decay(replace(lr_coupled, decay_convention="independent")) == independent


def test_who_decays() -> None:
    rule = Rule("standard")
    assert {role: decay(rule, role) for role in ("embedding", "vector", "scalar")} == dict.fromkeys(
        ("embedding", "vector", "scalar")
    )
    assert decay(rule, "readout") == 1
    assert decay(replace(rule, readout_decay="none"), "readout") is None


@pytest.mark.parametrize(
    ("parameterization", "weight_decay", "coupled", "independent"),
    [
        ("standard", "constant", 0, 0),
        ("standard", "linear_width", 0, 0),
        ("ntk", "linear_width", 0, 0),
        ("mup", "constant", 0, 0),
        ("mup", "linear_width", HALF, 0),
        ("mup", Fraction(1, 3), Fraction(1, 3), Fraction(1, 3)),
        ("mup", "none", None, None),
        ("mean_field", "linear_width", 0, 0),
    ],
)
def test_embeddings_decay_where_asked_by_the_rule_for_their_own_rate(
    parameterization: ParameterizationName,
    weight_decay: DecayRule,
    coupled: Fraction | None,
    independent: Fraction | None,
) -> None:
    rule = Rule(parameterization, weight_decay=weight_decay, embedding_decay="as_hidden")
    assert decay(rule, "embedding") == coupled
    assert decay(replace(rule, decay_convention="independent"), "embedding") == independent
    assert decay(replace(rule, embedding_decay="none"), "embedding") is None
    assert {decay(rule, "vector"), decay(rule, "scalar")} == {None}
    others: tuple[Role, ...] = ("hidden", "readout")
    plain = replace(rule, embedding_decay="none")
    assert [decay(rule, role) for role in others] == [decay(plain, role) for role in others]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_linear_width_decays_embeddings_by_the_same_share_of_a_step_at_all_widths(
    parameterization: ParameterizationName, optimizer: str
) -> None:
    rule = Rule(parameterization, OPTIMIZERS[optimizer], embedding_decay="as_hidden")
    for folded in (False, True):
        x = role_exponents(replace(rule, folded=folded), "embedding")
        assert x.weight_decay is not None
        assert x.lr + x.weight_decay == 0


def test_folded_it_is_what_mup_and_completep_do_to_embeddings() -> None:
    """Their code gives embeddings the same rate and the same decay at all widths."""
    x = role_exponents(Rule("mup", embedding_decay="as_hidden", folded=True), "embedding")
    assert {x.multiplier, x.lr, x.weight_decay} == {Fraction(0)}


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_epsilon_follows_the_gradient_per_layer(parameterization: ParameterizationName) -> None:
    constant, per_layer = (
        Rule(parameterization, epsilon=epsilon) for epsilon in ("constant", "per_layer")
    )
    for role in MATRIX_ROLES:
        assert role_exponents(constant, role).eps == 0
        x = role_exponents(per_layer, role)
        assert x.eps == x.gradient
    assert role_exponents(per_layer, "scalar").eps == 0
    assert role_exponents(Rule(parameterization, OPTIMIZERS["adam_atan2"]), "hidden").eps is None
    muon = Rule(parameterization, OPTIMIZERS["muon"])
    assert [role_exponents(muon, role).eps for role in MATRIX_ROLES] == [0, None, 0]


@pytest.mark.parametrize(
    ("optimizer", "convention"), list(product(OPTIMIZERS, ["lr_coupled", "independent"]))
)
@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_folding_keeps_what_training_sees(
    parameterization: ParameterizationName, optimizer: str, convention: str
) -> None:
    """No multiplier is left, and the effective weight starts, moves and decays as before."""
    rule = Rule(parameterization, OPTIMIZERS[optimizer], decay_convention=convention)  # type: ignore[arg-type]
    rule = replace(rule, embedding_decay="as_hidden")
    for role in MATRIX_ROLES:
        plain, folded = (role_exponents(replace(rule, folded=f), role) for f in (False, True))
        assert folded.multiplier == 0
        assert folded.init_std == plain.init_std + plain.multiplier
        family = OPTIMIZERS[optimizer].family
        family = "adam" if family == "muon" and role != "hidden" else family
        # size of one update of the effective weight: multiplier * entries of the update
        seen = {"sgd": "gradient", "adafactor": "init_std"}.get(family)
        before, after = (
            x.multiplier + x.lr + (getattr(x, seen) if seen else 0) for x in (plain, folded)
        )
        assert before == after
        if plain.weight_decay is not None:
            assert folded.weight_decay is not None
            shared = 0 if convention == "independent" else 1
            assert (
                folded.weight_decay + shared * folded.lr == plain.weight_decay + shared * plain.lr
            )
        if plain.eps is not None:
            assert plain.gradient is not None
            assert folded.eps is not None
            assert folded.gradient is not None
            assert folded.eps - folded.gradient == plain.eps - plain.gradient


@pytest.mark.parametrize("decay_rule", ["sqrt_width", "linear_width"])
@pytest.mark.parametrize(("one", "other"), [("standard", "ntk"), ("mup", "mean_field")])
def test_pairs_that_differ_by_multipliers_are_one_model_when_folded(
    one: ParameterizationName, other: ParameterizationName, decay_rule: str
) -> None:
    rule = Rule(one, folded=True, epsilon="per_layer", weight_decay=decay_rule)  # type: ignore[arg-type]
    for role in MATRIX_ROLES:
        assert role_exponents(rule, role) == role_exponents(
            replace(rule, parameterization=other), role
        )


def test_where_folding_is_not_exact_is_said_with_the_factor() -> None:
    clip, eps, tied = folding_limits(Rule("mup"), clip=True, width_mult=16)
    assert clip == (
        "gradient clipping will act at a different threshold: the folded embedding counts 0.25 "
        "times and readout counts 4 times; turn clipping off, or use --no-fold"
    )
    assert "its own eps (embedding 0.25 times and readout 4 times that of the unfolded" in eps
    assert tied.startswith("a weight that is tied to another cannot be folded")
    (floor,) = folding_limits(Rule("ntk", OPTIMIZERS["adafactor"]), clip=False, tied=False)
    assert floor == (
        "Adafactor's floor under the parameter scale moves against folded weights (hidden "
        "width_mult^1/2 times and readout width_mult^1/2 times as high)"
    )


def test_nothing_is_said_about_tied_weights_where_nothing_is_tied() -> None:
    limits = folding_limits(Rule("mup"), clip=True, width_mult=16, tied=False)
    assert not any("tied" in limit for limit in limits)
    assert folding_limits(Rule("mup", OPTIMIZERS["adam_atan2"]), clip=False, tied=False) == ()


def test_a_tied_readout_is_not_folded() -> None:
    (clip, _) = folding_limits(Rule("mup"), clip=True, width_mult=16, tied=True)
    assert "the folded embedding counts 0.25 times;" in clip


def test_a_rule_without_multipliers_folds_exactly() -> None:
    assert folding_limits(Rule("standard"), clip=True) == ()


@pytest.mark.parametrize("optimizer", ["sgd", "adam_atan2", "lion", "adafactor"])
def test_an_epsilon_rule_without_epsilon_is_refused(optimizer: str) -> None:
    with pytest.raises(InputError, match="epsilon per_layer: "):
        Rule("mup", OPTIMIZERS[optimizer], epsilon="per_layer")


def test_settings_that_contradict_each_other_are_refused_with_the_reason() -> None:
    with pytest.raises(InputError, match=r"epsilon none: adamw divides by sqrt\(v\) \+ eps"):
        Rule("mup", epsilon="none")
    with pytest.raises(InputError, match="lr_adjustment: is Muon's, adamw has none"):
        Rule("mup", lr_adjustment="original")
    with pytest.raises(InputError, match="observed in the steady state of AdamW"):
        Rule("mup", OPTIMIZERS["sgd"], weight_decay="sqrt_width")
    with pytest.raises(
        InputError, match=r"^embedding_decay as_hidden: .* two growing axes and says nothing of emb"
    ):
        Rule("mup", weight_decay="sqrt_width", embedding_decay="as_hidden")
