"""The attention scale: moved into query matrices where these can be told, otherwise named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mutransfer_cli.check.static import static_gate
from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.recipe.build import build_recipe
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.sweep.prepare import Sweep
from tests.recipe.test_build import exponents

FACTOR = 8**-0.5  # 1/d_head over 1/sqrt(d_head), heads of 8
Make = Callable[..., Exponents]


@pytest.fixture
def make(tiny: dict[str, Any], prepare: Callable[[dict[str, Any]], Sweep]) -> Make:
    def made(**model: Any) -> Exponents:
        changes = {
            "model": {"depth": 1, "head_size": 8} | model,
            "optimizer": {"weight_decay": 0.1},
        }
        return exponents(prepare(tiny | changes))

    return made


def hidden(recipe: Recipe) -> dict[str, Any]:
    """Values of hidden matrices by the last two parts of their pattern."""
    role = recipe.roles["hidden"]
    return {p.pattern.rstrip("$").split(r"\.")[-2]: role.values(p) for p in role.parameters}


def test_a_separate_query_matrix_takes_the_scale_and_nothing_else_changes(make: Make) -> None:
    found = make(kv_heads=1)
    recipe = build_recipe(found, Target(64, {}, folded=True))
    scale, values = recipe.attention_scale, hidden(recipe)
    assert scale is not None
    assert (scale.folded, scale.in_forward_pass) == (True, False)
    query, kv = values["query"], values["kv"]
    assert query.lr == pytest.approx(kv.lr * FACTOR)
    assert query.weight_decay == pytest.approx(kv.weight_decay / FACTOR)
    assert query.independent == pytest.approx(kv.independent)
    assert query.eps == pytest.approx(kv.eps / FACTOR)
    assert query.init_std == pytest.approx(kv.init_std * FACTOR)
    assert static_gate(recipe).verdict == "pass"
    unfolded = build_recipe(found, Target(64, {}, folded=False))
    assert unfolded.attention_scale is not None
    assert unfolded.attention_scale.in_forward_pass
    assert hidden(unfolded)["query"] == hidden(unfolded)["kv"]


@pytest.mark.parametrize("model", [{}, {"kv_heads": 1, "qk_norm": True}], ids=["fused", "normed"])
def test_queries_that_cannot_be_told_apart_leave_it_to_the_forward_pass(
    make: Make, model: dict[str, Any]
) -> None:
    recipe = build_recipe(make(**model), Target(64, {}, folded=True))
    assert recipe.attention_scale is not None
    assert recipe.attention_scale.in_forward_pass
    assert len({values.lr for values in hidden(recipe).values()}) == 1


def test_the_usual_scale_is_nothing_to_fold(make: Make) -> None:
    found = make(kv_heads=1, attention_scale="1/sqrt(d_head)")
    recipe = build_recipe(found, Target(64, {}, folded=True))
    assert recipe.attention_scale is not None
    assert not recipe.attention_scale.folded
    assert not recipe.attention_scale.in_forward_pass


def test_a_changed_factor_is_a_fault_of_the_file(make: Make) -> None:
    recipe = build_recipe(make(kv_heads=1), Target(64, {}, folded=True))
    text = recipe.model_dump(mode="json", by_alias=True)
    (query,) = (p for p in text["roles"]["hidden"]["parameters"] if "query" in p["pattern"])
    assert query["base"]["factor"] == pytest.approx(FACTOR)
    query["base"]["factor"] = 1.0
    gate = static_gate(Recipe.model_validate(text))
    assert gate.verdict == "fail"
    assert any("query" in measure.sentence for measure in gate.measures)
