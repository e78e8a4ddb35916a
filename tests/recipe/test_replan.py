"""A recipe's values compared with its rule's, and the mistakes that explain a difference."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mutransfer_cli.recipe.replan import Deviation, deviations, replanned
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.rules.plan import BaseParameter

UP = BaseParameter("up", "hidden", (16, 16), (0, 1), 0.25, fan_in_axis=1)
SHAPES = {"up": (64, 64)}


def test_the_rule_is_applied_again_at_the_recipes_width(unfolded: Recipe) -> None:
    (planned,) = replanned(unfolded, [UP], SHAPES)
    assert planned.lr == pytest.approx(unfolded.base_lr.value / 4)
    assert planned.init_std == pytest.approx(0.25 / 2)
    assert planned.weight_decay == pytest.approx(0.1 * 4)
    half = replanned(unfolded, [UP], {"up": (64, 32)})
    assert half[0].lr == pytest.approx(unfolded.base_lr.value / 2), "its own fan-in grows twofold"


def test_values_by_the_rule_do_not_deviate(unfolded: Recipe) -> None:
    (wanted,) = replanned(unfolded, [UP], SHAPES)
    found = list(deviations(unfolded, UP, wanted, wanted))
    assert [d.quantity for d in found] == ["lr", "weight_decay", "eps", "multiplier", "init_std"]
    assert {d.share for d in found} == {0.0}
    unknown = deviations(unfolded, UP, replace(wanted, init_std=None), wanted)
    assert "init_std" not in {d.quantity for d in unknown}
    without_eps = deviations(unfolded, UP, replace(wanted, eps=None), wanted)
    assert {d.quantity: d.share for d in without_eps}["eps"] == 1.0


def test_weight_decay_is_compared_in_the_rules_convention(unfolded: Recipe) -> None:
    assert unfolded.rule is not None
    rule = unfolded.rule.model_copy(update={"decay_convention": "independent"})
    recipe = unfolded.model_copy(update={"rule": rule})
    (wanted,) = replanned(recipe, [UP], SHAPES)
    other_rate = replace(wanted, lr=2 * wanted.lr, weight_decay=(wanted.weight_decay or 0) / 2)
    by_quantity = {d.quantity: d for d in deviations(recipe, UP, other_rate, wanted)}
    assert by_quantity["weight_decay"].share == pytest.approx(0.0, abs=1e-12)
    assert by_quantity["weight_decay"].wanted == pytest.approx(0.1)
    assert by_quantity["lr"].share == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("quantity", "found", "wanted", "plain", "hint"),
    [
        ("lr", 0.04, 0.01, 0.04, "it is not scaled with width"),
        ("multiplier", 1.0, 0.5, 1.0, "so that the multiplier is missing"),
        ("eps", 2e-8, 1e-8, 1e-8, "the rule does not scale it"),
        ("lr", 0.0025, 0.01, 0.04, "it is scaled with width twice"),
        ("weight_decay", 0.004, 0.4, 0.1, "it is in the other convention"),
    ],
)
def test_a_known_mistake_is_named(
    quantity: str, found: float, wanted: float, plain: float, hint: str
) -> None:
    deviation = Deviation(quantity, "hidden", "up", found, wanted, plain, lr=0.01)  # type: ignore[arg-type]
    assert hint in str(deviation)
    assert str(deviation).startswith(f"{quantity} of up (hidden) is {found:.6g}, by the rule")


def test_an_unknown_mistake_has_no_hint() -> None:
    text = str(Deviation("lr", "hidden", "hidden", 0.013, 0.01, 0.04, 0.01))
    assert text == "lr of hidden is 0.013, by the rule 0.01"
