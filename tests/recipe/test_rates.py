"""Rates that depart from the recipe: one for all, bent by a floor, or scaled with width twice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR

from mutransfer_cli.recipe.loaded import LoadedRecipe
from mutransfer_cli.recipe.types import Recipe
from tests.recipe.made import NAMES, Net, loaded
from tests.recipe.test_loaded_plan import global_scope
from tests.recipe.test_verify import IN_MODEL, Hand, adamw, found


def test_one_rate_for_all_groups(recipe: LoadedRecipe, model: Net) -> None:
    optimizer = adamw(recipe, model)
    for group in optimizer.param_groups:
        group["lr"] = 3e-3
    differences = found(recipe, model, optimizer)
    assert set(differences) == {"one_rate"}
    assert "lr of hidden (2 parameters, layers.0.weight first) is 0.003" in differences["one_rate"]


def test_one_rate_set_by_the_scheduler(recipe: LoadedRecipe, model: Net) -> None:
    optimizer = adamw(recipe, model)
    hand = Hand(optimizer, lambda peak, step: 3e-3 if step else peak)
    differences = found(recipe, model, optimizer, hand)
    assert set(differences) == {"one_rate"}
    assert differences["one_rate"].startswith("after 1 scheduler step lr is 0.003 for all groups")


def test_one_rate_beside_a_schedule_that_would_be_right(recipe: LoadedRecipe, model: Net) -> None:
    """A loop may overwrite the rates of its LambdaLR."""
    optimizer = adamw(recipe, model)
    scheduler = LambdaLR(optimizer, lambda step: 1.0)
    for group in optimizer.param_groups:
        group["lr"] = 1e-3
    assert (
        "now lr is 0.001 for all groups" in found(recipe, model, optimizer, scheduler)["one_rate"]
    )


def test_an_absolute_floor_bends_the_ratios(recipe: LoadedRecipe, model: Net) -> None:
    optimizer = adamw(recipe, model)
    floor = 1.5 * min(group["lr"] for group in optimizer.param_groups)
    hand = Hand(optimizer, lambda peak, step: max(floor, peak / 2) if step else peak)
    differences = found(recipe, model, optimizer, hand)
    assert set(differences) == {"schedule"}
    assert "is at 0.5 of its peak lr and hidden" in differences["schedule"]
    assert "at 1.5: the ratios between groups bend" in differences["schedule"]


def test_torchs_absolute_floor_is_seen_in_one_step_of_thousands(
    recipe: LoadedRecipe, model: Net
) -> None:
    optimizer = adamw(recipe, model)
    scheduler = CosineAnnealingLR(optimizer, 10_000, eta_min=1e-3)
    assert set(found(recipe, model, optimizer, scheduler)) == {"schedule"}


def test_a_floor_that_acts_late_is_seen_by_looking_as_far(recipe: LoadedRecipe, model: Net) -> None:
    optimizer = adamw(recipe, model)
    hand = Hand(optimizer, lambda peak, step: max(1e-4, peak / 2**step))
    assert recipe.verify(model, optimizer, hand, steps=3).ok
    (difference,) = recipe.verify(model, optimizer, hand, steps=30).differences
    assert difference.sentence.startswith("after 6 scheduler steps embedding"), difference.sentence


def test_rates_above_the_peak(recipe: LoadedRecipe, model: Net) -> None:
    optimizer = adamw(recipe, model)
    hand = Hand(optimizer, lambda peak, step: peak * 3**step)
    sentence = found(recipe, model, optimizer, hand)["schedule"]
    assert sentence.startswith("after 1 scheduler step lr is 3 times the peak of its group")


def test_rates_that_are_wrong_by_themselves(recipe: LoadedRecipe, model: Net) -> None:
    optimizer = adamw(recipe, model)
    optimizer.param_groups[0]["lr"] *= 1.01
    (difference,) = recipe.verify(model, optimizer).differences
    assert (difference.name, difference.parameters) == ("lr", ("wte.weight",))
    for group in (optimizer := adamw(recipe, model)).param_groups:
        group["lr"] *= 0.1
    assert found(recipe, model, optimizer)["lr"].startswith("every lr is 0.1 times the recipe's")
    # it could be a warm-up, but LambdaLR knows its peak
    assert recipe.verify(model, optimizer, Hand(optimizer, lambda peak, step: peak)).ok
    assert "lr" in found(recipe, model, optimizer, LambdaLR(optimizer, lambda step: 1.0))
    for group in (optimizer := adamw(recipe, model)).param_groups:
        group["lr"] *= 2
    assert "lr" in found(recipe, model, optimizer, Hand(optimizer, lambda peak, step: peak))
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    assert set(found(recipe, model, optimizer)) == {"one_rate"}


def test_one_rate_is_right_where_the_recipe_has_one(folded: Recipe, model: Net) -> None:
    recipe = loaded(folded, edit=global_scope)
    with pytest.warns(UserWarning, match="scope: global"):
        optimizer = adamw(recipe, model)
    assert recipe.verify(model, optimizer).ok
    optimizer.param_groups[0]["lr"] *= 3
    assert set(found(recipe, model, optimizer)) == {"lr"}


def test_mup_applied_twice_by_the_trainer(recipe: LoadedRecipe, model: Net) -> None:
    """Some trainers divide the rates of matrices by the width multiplier themselves."""
    optimizer = adamw(recipe, model)
    for group in optimizer.param_groups[1:]:
        group["lr"] /= 4
    differences = found(recipe, model, optimizer)
    assert set(differences) == {"scaled_twice"}
    assert "lr of hidden" in differences["scaled_twice"]
    assert "switch muP off in the trainer" in differences["scaled_twice"]


def test_mup_applied_twice_to_hidden_only(unfolded: Recipe, model: Net) -> None:
    recipe = loaded(unfolded, NAMES)
    optimizer = torch.optim.AdamW(recipe.param_groups(model, multipliers="in_model"))
    hidden = optimizer.param_groups[-1]
    hidden["lr"] /= 4
    assert set(found(recipe, model, optimizer, **IN_MODEL)) == {"scaled_twice"}
    hidden["lr"] *= 3
    assert set(found(recipe, model, optimizer, **IN_MODEL)) == {"lr"}


def test_ratios_that_are_squares(unfolded: Recipe, model: Net) -> None:
    """The base rate differs too, so that no single rate shows it."""
    recipe = loaded(unfolded, NAMES)
    optimizer = torch.optim.AdamW(recipe.param_groups(model, multipliers="in_model"))
    for group in optimizer.param_groups:
        group["lr"] = 7 * group["lr"] ** 2
    assert set(found(recipe, model, optimizer, **IN_MODEL)) == {"scaled_twice"}


def test_a_tuned_factor_is_no_power_of_width(folded: Recipe, model: Net) -> None:
    def tuned(document: dict[str, Any]) -> None:
        document["lr_mult"] = {"hidden": {"value": 4, "status": "assumed", "source": "tuned"}}
        document["roles"]["hidden"]["lr"]["value"] *= 4

    recipe = loaded(folded, NAMES, tuned)
    optimizer = adamw(recipe, model)
    next(g for g in optimizer.param_groups if "hidden" in g["name"])["lr"] /= 4
    assert set(found(recipe, model, optimizer)) == {"scaled_twice"}
