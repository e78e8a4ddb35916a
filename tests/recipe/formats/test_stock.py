from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mutransfer_cli.errors import NotExpressible
from mutransfer_cli.recipe.build import build_recipe
from mutransfer_cli.recipe.formats.dispatch import emit
from mutransfer_cli.recipe.formats.sheet import Sheet
from mutransfer_cli.recipe.formats.stock import LLAMA, stock_llama, stock_sheet
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.rules.plan import BaseParameter, TargetModel
from tests.recipe.formats.conftest import QUERY, WIDTH, Document

STOCK = stock_llama(16, WIDTH)


def sheet(document: Document, target: TargetModel = STOCK, **changes: Any) -> Sheet:
    found = document(optimizer={"weight_decay": 0.1}, **changes)
    recipe = build_recipe(found, Target(WIDTH, {}, True, model=target))
    return stock_sheet(recipe, found, target, "torchtitan", True)


def test_a_folded_attention_scale_makes_queries_a_kind(document: Document) -> None:
    values = sheet(document).values
    assert list(values) == ["embedding", "readout", "vector", "query", "hidden"]
    assert values["query"].lr == pytest.approx(values["hidden"].lr * QUERY)
    assert values["query"].init_std == pytest.approx(QUERY / 16)
    usual = sheet(document, model={"attention_scale": "1/sqrt(d_head)"})
    assert "query" not in usual.values


def test_stds_are_absolute_and_of_a_fan_in(document: Document) -> None:
    values = sheet(document).values
    assert (values["embedding"].init_std, values["embedding"].init_fan_in) == (1.0, None)
    assert (values["hidden"].init_std, values["hidden"].init_fan_in) == (1 / 16, WIDTH)
    assert (values["vector"].init_mean, values["vector"].init_std) == (1.0, 0.0)


def test_an_inner_size_that_grows_otherwise_makes_down_projections_a_kind(
    document: Document,
) -> None:
    name = "model.layers.0.mlp.down_proj.weight"
    rounded = replace(STOCK, shapes={**STOCK.shapes, name: (WIDTH, 5 * WIDTH)})
    values = sheet(document, rounded).values
    assert values["down"].lr == pytest.approx(values["hidden"].lr * 4 / 5)
    assert values["down"].init_std == pytest.approx((5 * WIDTH) ** -0.5)


def test_what_a_frameworks_llama_lacks_is_refused(document: Document) -> None:
    bias = BaseParameter("model.layers.0.self_attn.q_proj.bias", "vector", (16,), (0,), 0.0)
    shapes = {**STOCK.shapes, bias.name: (WIDTH,)}
    model = replace(STOCK, base_plan=(*STOCK.base_plan, bias), shapes=shapes)
    with pytest.raises(NotExpressible, match=r"its own Llama has no .*q_proj.*bias"):
        sheet(document, model)
    name = "model.layers.0.self_attn.o_proj.weight"
    odd = replace(STOCK, shapes={**STOCK.shapes, name: (WIDTH, 2 * WIDTH)})
    with pytest.raises(NotExpressible, match=r"o_proj.* has values of its own"):
        sheet(document, odd)


@pytest.mark.parametrize("to", ["optax", "nanochat"])
def test_tied_weights_are_refused_where_both_have_values(document: Document, to: str) -> None:
    untied = tuple(p for p in STOCK.base_plan if p.name != "lm_head.weight")
    model = replace(STOCK, base_plan=untied)
    with pytest.raises(NotExpressible, match=f"to {to}: embedding and readout are one tied weight"):
        emit(document(), Target(WIDTH, {}, model=model), to, allow_lossy=True)


def test_its_names_are_those_of_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    names = [name for name, _ in transformers.LlamaForCausalLM(config).named_parameters()]
    assert sorted(names) == sorted(LLAMA)
