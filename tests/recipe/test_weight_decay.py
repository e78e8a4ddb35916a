"""Weight decay in a recipe: base value, rule, factor and result, and the sentences about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from mutransfer_cli.check.static import static_gate
from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.recipe.build import build_recipe
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.recipe.weight_decay import UNDECLARED, scalings, undeclared
from mutransfer_cli.rules.plan import BaseParameter, TargetModel
from mutransfer_cli.spec.protocol import DeclaredProtocol
from mutransfer_cli.spec.yaml_io import dump
from mutransfer_cli.strict import validated
from mutransfer_cli.sweep.prepare import Sweep
from tests.recipe.test_build import exponents

Prepare = Callable[[dict[str, Any]], Sweep]
WIDTH = 64  # four times the base width


@pytest.fixture
def made(tiny: dict[str, Any], prepare: Prepare) -> Callable[..., Recipe]:
    """Make the recipe of a sweep of weight decay 0.1 by the given rule."""

    def make(
        folded: bool = False,
        width: int = WIDTH,
        base: float = 0.1,
        model: TargetModel | None = None,
        **rule: str,
    ) -> Recipe:
        tiny["parameterization"] |= rule
        tiny["optimizer"] = {"weight_decay": base}
        found = exponents(prepare(tiny))
        return build_recipe(found, Target(width, {}, folded, model=model))

    return make


def test_one_sentence_where_all_that_decay_agree(made: Callable[..., Recipe]) -> None:
    assert scalings(made(name="standard", width=512)) == (
        "weight decay 0.100 -> 3.20: x32 by linear_width from base width 16",
    )
    assert scalings(made(folded=True)) == (
        "weight decay 0.100 -> 0.400: x4 by linear_width, folded, from base width 16",
    )


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (
            {},
            [
                "of hidden 0.100 -> 0.400: x4 by linear_width",
                "of readout 0.100 -> 0.200: x2 by linear_width",
            ],
        ),
        (
            {"embedding_decay": "as_hidden"},
            [
                "of embedding, readout 0.100 -> 0.200: x2 by linear_width",
                "of hidden 0.100 -> 0.400: x4 by linear_width",
            ],
        ),
        ({"weight_decay": "1/2"}, ["0.100 -> 0.200: x2 by width^1/2"]),
        ({"weight_decay": "constant"}, []),
        (
            {"decay_convention": "independent", "embedding_decay": "as_hidden"},
            [],
        ),
        (
            {"weight_decay": "sqrt_width", "readout_decay": "none"},
            ["0.100 -> 0.200: x2 by sqrt_width"],
        ),
        ({"weight_decay": "none"}, []),
    ],
)
def test_a_sentence_for_each_role_where_they_differ(
    made: Callable[..., Recipe], rule: dict[str, str], expected: list[str]
) -> None:
    recipe = made(**rule)
    ends = " from base width 16"
    assert scalings(recipe) == tuple(f"weight decay {one}{ends}" for one in expected)
    assert static_gate(recipe).verdict == "pass"


def test_nothing_is_said_of_no_weight_decay(made: Callable[..., Recipe]) -> None:
    recipe = made(base=0.0)
    assert scalings(recipe) == ()
    decay = recipe.roles["hidden"].weight_decay
    assert not {"base", "rule", "factor"} & decay.model_dump().keys()


def test_nothing_else_is_new_in_the_file(made: Callable[..., Recipe]) -> None:
    document = yaml.safe_load(dump(made()))
    decay = ["value", "status", "source", "convention", "base", "rule", "factor"]
    assert list(document["roles"]["hidden"]["weight_decay"]) == decay
    assert list(document["roles"]["embedding"]["weight_decay"]) == decay[:4]
    assert list(document["base_weight_decay"]) == decay[:4]
    assert list(document["rule"]) == [
        *("alignment", "lr_rule", "weight_decay", "decay_convention", "readout_decay", "epsilon"),
        *("folded", "eps"),
    ]
    for values in document["roles"].values():
        for key in decay[4:]:
            values["weight_decay"].pop(key, None)
    older = validated(Recipe, document, "recipe")
    assert scalings(older) == ()
    assert static_gate(older).verdict == "pass"


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("convention", ["lr_coupled", "independent"])
@pytest.mark.parametrize("rule", ["constant", "linear_width", "1/3"])
def test_the_value_is_base_times_factor(
    made: Callable[..., Recipe], rule: str, convention: str, folded: bool
) -> None:
    recipe = made(
        folded, weight_decay=rule, decay_convention=convention, embedding_decay="as_hidden"
    )
    for role, values in recipe.roles.items():
        decay = values.weight_decay
        if role in ("vector", "scalar"):
            assert (decay.value, decay.base, decay.rule, decay.factor) == (0, None, None, None)
            continue
        assert decay.base is not None
        assert decay.factor is not None
        assert (decay.base, decay.rule) == (0.1, rule)
        assert decay.value == pytest.approx(decay.base * decay.factor, rel=1e-12)


def test_an_embedding_decays_where_asked_and_says_why(made: Callable[..., Recipe]) -> None:
    plain, asked = made(), made(embedding_decay="as_hidden")
    assert plain.roles["embedding"].weight_decay.value == 0
    decay = asked.roles["embedding"].weight_decay
    assert decay.value == pytest.approx(0.1 * 2), "lr ~ width^-1/2, unfolded"
    assert "embeddings decay too, as in the code of muP" in decay.source
    assert asked.rule is not None
    assert asked.rule.embedding_decay == "as_hidden"


def test_parameters_of_another_growth_are_named(made: Callable[..., Recipe]) -> None:
    shapes = {"up.weight": (32, 64), "down.weight": (64, 320), "head.weight": (9, 64)}
    sizes = [(32, 16), (16, 32), (9, 16)]
    base = tuple(
        BaseParameter(name, role, size, (), 0.1, fan_in_axis=1)  # type: ignore[arg-type]
        for name, role, size in zip(shapes, ("hidden", "hidden", "readout"), sizes, strict=True)
    )
    recipe = made(model=TargetModel(WIDTH, base, shapes), readout_decay="none")
    assert scalings(recipe) == (
        "weight decay of hidden 0.100 -> 0.400: x4 by linear_width from base width 16",
        r"weight decay of ^down\.weight$ (hidden) 0.100 -> 1.00: x10 by linear_width "
        "from base width 16",
    )


@pytest.fixture
def declared(tiny: dict[str, Any], prepare: Prepare) -> Callable[..., Exponents]:
    """Make the fit of own results at weight decay 0.1 and base width 16."""

    def make(weight_decay_values: str | None = None, **rule: str) -> Exponents:
        content = {
            "schema": "mutransfer.protocol/1",
            "parameterization": {"name": "mup", "base_width": 16} | rule,
            "optimizer": {"name": "adamw", "weight_decay": 0.1},
            "train": {"batch": 1, "steps": 10},
        }
        if weight_decay_values:
            content["weight_decay_values"] = weight_decay_values
        protocol = validated(DeclaredProtocol, content, "protocol")
        found = exponents(prepare(tiny | {"optimizer": {"weight_decay": 0.1}}))
        return found.model_copy(update={"protocol": protocol, "base_plan": ()})

    return make


def test_own_results_that_do_not_say_how_it_was_scaled_get_it_unscaled(
    declared: Callable[..., Exponents],
) -> None:
    for rule in ({}, {"weight_decay": "linear_width"}):
        recipe = build_recipe(declared(**rule), Target(WIDTH, {}))
        assert undeclared(0.1) in recipe.warnings
        assert scalings(recipe) == ()
        hidden = recipe.roles["hidden"].weight_decay
        assert (hidden.value, hidden.status, hidden.low) == (0.1, "assumed", None)
        assert (hidden.base, hidden.rule, hidden.factor) == (0.1, None, 1.0)
        assert UNDECLARED in hidden.source
        assert static_gate(recipe).verdict == "pass"


def test_own_results_that_do_are_scaled(declared: Callable[..., Exponents]) -> None:
    found = declared("base", weight_decay="linear_width")
    recipe = build_recipe(found, Target(WIDTH, {}))
    assert not recipe.warnings
    assert recipe.roles["hidden"].weight_decay.value == pytest.approx(0.4)
    assert static_gate(recipe).verdict == "pass"
    kept = build_recipe(declared(weight_decay="constant"), Target(WIDTH, {}))
    assert not kept.warnings
    assert kept.roles["hidden"].weight_decay.rule == "constant"


def test_unscaled_and_folded_the_factor_is_that_of_folding(
    declared: Callable[..., Exponents],
) -> None:
    recipe = build_recipe(declared(), Target(WIDTH, {}, folded=True))
    assert scalings(recipe) == (
        "weight decay of readout 0.100 -> 0.200: x2 by folding alone from base width 16",
    )
    lr = {role: values.lr.value for role, values in recipe.roles.items()}
    plain = build_recipe(declared(), Target(WIDTH, {}))
    there = plain.roles["readout"]
    step = lr["readout"] * recipe.roles["readout"].weight_decay.value
    assert step == pytest.approx(there.lr.value * there.weight_decay.value)
