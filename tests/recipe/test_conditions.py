"""Statements of the caller: attention scale, clipping, the update of an unknown class."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import AdamW, Muon

from mutransfer_cli.errors import InputError
from mutransfer_cli.recipe.loaded import LoadedRecipe
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.sweep.prepare import Sweep
from tests.recipe.made import NAMES, WIDTH, Net, loaded
from tests.recipe.test_build import exponents, recipe_of
from tests.recipe.test_loaded_plan import global_scope

Prepare = Callable[[dict[str, Any]], Sweep]
IN_MODEL: Any = {"attention_scale": "in_model"}


def clipped_at(norm: float | None) -> Callable[[dict[str, Any]], None]:
    def edit(document: dict[str, Any]) -> None:
        document["holds_for"]["clip"] = norm

    return edit


def sentences(recipe: LoadedRecipe, model: nn.Module, **stated: Any) -> dict[str, str]:
    optimizer = AdamW(recipe.param_groups(model, multipliers="in_model"))
    differences = recipe.verify(model, optimizer, **stated).differences
    return {difference.name: difference.sentence for difference in differences}


def test_nobody_is_silent_about_the_attention_scale(sweep: Sweep, unfolded: Recipe) -> None:
    recipe, model = loaded(unfolded), sweep.model(WIDTH)
    found = sentences(recipe, model)
    assert set(found) == {"attention_scale"}
    assert found["attention_scale"].startswith(
        "the attention scale is 1/d_head, 0.125 at d_head 8, which the model's code must put on q.k"
    )
    assert "0.353553, attention logits are 2.83 times those of the fit" in found["attention_scale"]
    assert "is lost by save_pretrained and from_pretrained" in found["attention_scale"]
    weight = model.get_parameter("embedding.weight").clone()
    with pytest.raises(InputError, match=r"recipe: the attention scale is 1/d_head, 0\.125"):
        recipe.init_(model)
    assert torch.equal(model.get_parameter("embedding.weight"), weight), "refused, not begun"
    assert not sentences(recipe, model, **IN_MODEL)
    assert recipe.init_(model, **IN_MODEL).drawn


def test_a_scale_that_is_folded_must_not_be_applied_again(folded: Recipe) -> None:
    recipe, model = loaded(folded, NAMES), Net()
    assert not sentences(recipe, model)
    sentence = sentences(recipe, model, **IN_MODEL)["attention_scale"]
    assert "is in the query matrices already, so that the model keeps 1/sqrt(d_head)" in sentence
    with pytest.raises(InputError, match="in the model's code as well it would act twice"):
        recipe.init_(model, **IN_MODEL)


@pytest.mark.parametrize("formula", ["1/sqrt(d_head)", None])
def test_the_usual_scale_needs_no_statement(folded: Recipe, formula: str | None) -> None:
    def usual(document: dict[str, Any]) -> None:
        scale = {**document["attention_scale"], "formula": formula, "value": 8**-0.5}
        scale.pop("folded")
        document["attention_scale"] = scale if formula else None

    recipe, model = loaded(folded, NAMES, usual), Net()
    assert not sentences(recipe, model)
    assert not sentences(recipe, model, **IN_MODEL)
    recipe.init_(model)


def test_a_statement_has_known_values(folded: Recipe) -> None:
    recipe, model = loaded(folded, NAMES), Net()
    with pytest.raises(InputError, match="attention_scale 'yes': must be 'in_model' or left out"):
        sentences(recipe, model, attention_scale="yes")
    with pytest.raises(InputError, match=r"optimizer_class 'adamW': no optimizer.*adamw"):
        sentences(recipe, model, optimizer_class="adamW")
    for norm in (0.0, math.nan):
        with pytest.raises(InputError, match="must be above 0, as gradients clipped there are 0"):
            sentences(recipe, model, max_norm=norm)


RUNS = "those of the recipe's runs were"


@pytest.mark.parametrize(
    ("wanted", "given", "sentence"),
    [
        (1.0, 1.0, None),
        (1.0, None, None),
        (None, math.inf, None),
        (1.0, 0.5, f"gradients are clipped at norm 0.5, {RUNS} clipped at 1"),
        (1.0, math.inf, f"nothing clips gradients, {RUNS} clipped at 1"),
        (None, 1.0, f"gradients are clipped at norm 1, {RUNS} not clipped"),
    ],
)
def test_clipping_is_that_of_the_fit(
    folded: Recipe, wanted: float | None, given: float | None, sentence: str | None
) -> None:
    recipe = loaded(folded, NAMES, clipped_at(wanted))
    found = sentences(recipe, Net(), max_norm=given)
    assert set(found) == ({"clip"} if sentence else set())
    assert found.get("clip", "").startswith(sentence or "")


def test_clipping_of_unknown_runs_is_not_compared(folded: Recipe) -> None:
    def unknown(document: dict[str, Any]) -> None:
        document["holds_for"] = None

    assert not sentences(loaded(folded, NAMES, unknown), Net(), max_norm=1.0)


class Mine(torch.optim.Optimizer):
    """A class that nobody knows."""

    def step(self, closure: Any = None) -> None: ...  # type: ignore[override]


def test_an_unknown_class_is_stated(folded: Recipe) -> None:
    recipe, model = loaded(folded, NAMES), Net()
    optimizer = Mine(recipe.param_groups(model), {})
    (difference,) = recipe.verify(model, optimizer).differences
    assert difference.name == "optimizer"
    assert difference.sentence.endswith("or say optimizer_class='adamw' if it is that update")
    assert recipe.verify(model, optimizer, optimizer_class="adamw").ok
    (difference,) = recipe.verify(model, optimizer, optimizer_class="lion").differences
    assert difference.sentence.startswith("lion (")
    # what is known by name is not stated away
    sgd = torch.optim.SGD(
        [{k: g[k] for k in ("params", "lr", "weight_decay")} for g in recipe.param_groups(model)]
    )
    assert not recipe.verify(model, sgd, optimizer_class="adamw").ok


def test_what_nobody_declared_is_not_compared(folded: Recipe) -> None:
    recipe, model = loaded(folded, edit=global_scope), Net()
    with pytest.warns(UserWarning, match="scope: global"):
        optimizer = Mine(recipe.param_groups(model), {})
    assert recipe.verify(model, optimizer).ok


def test_muon_has_the_settings_of_the_fit(tiny: dict[str, Any], prepare: Prepare) -> None:
    tiny["optimizer"] = {"name": "muon"}
    sweep = prepare(tiny)
    recipe, model = loaded(recipe_of(exponents(sweep), WIDTH, folded=True)), sweep.model(WIDTH)
    part: Any = {"part": "muon", **IN_MODEL}
    muon = Muon(recipe.param_groups(model, part="muon"))
    assert recipe.verify(model, muon, **part).ok
    other = Muon(
        recipe.param_groups(model, part="muon"),
        momentum=0.9,
        adjust_lr_fn="match_rms_adamw",
        nesterov=False,
    )
    differences = recipe.verify(model, other, **part).differences
    assert {difference.name for difference in differences} == {"optimizer"}
    assert [difference.sentence.rpartition(": ")[2] for difference in differences] == [
        "nesterov is False, in the recipe's runs it was True",
        "momentum is 0.9, the recipe says 0.95",
        "adjust_lr_fn is match_rms_adamw, the recipe says original",
    ]
    everything = AdamW(
        [*recipe.param_groups(model, part="muon"), *recipe.param_groups(model, part="adamw")]
    )
    (difference,) = recipe.verify(model, everything, **IN_MODEL).differences
    assert difference.sentence.startswith("adamw (torch.optim.adamw.AdamW) updates hidden")
