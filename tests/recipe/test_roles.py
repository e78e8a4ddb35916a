"""Patterns of names, and inits of the swept model."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mutransfer_cli.check.static import static_gate
from mutransfer_cli.recipe.build import build_recipe
from mutransfer_cli.recipe.formats.dispatch import emit
from mutransfer_cli.recipe.loaded import load_recipe
from mutransfer_cli.recipe.roles import Target, name_pattern, shared_patterns
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.rules.plan import BaseParameter
from mutransfer_cli.spec.yaml_io import dump
from mutransfer_cli.sweep.prepare import Sweep
from tests.recipe.formats.conftest import executed
from tests.recipe.test_build import exponents

Prepare = Callable[[dict[str, Any]], Sweep]


def base(name: str, role: Any, std: float = 0.5, **more: Any) -> BaseParameter:
    return BaseParameter(name, role, (16, 16), (0, 1), std, **more)


def test_a_pattern_is_for_the_parameter_of_every_block() -> None:
    assert name_pattern("blocks.0.up.weight") == r"^blocks\.\d+\.up\.weight$"
    assert name_pattern("h.w+") == r"^h\.w\+$"


def test_patterns_of_two_roles_are_shared() -> None:
    plan = [base("0.weight", "embedding"), base("2.weight", "hidden"), base("4.weight", "hidden")]
    assert shared_patterns(plan) == {r"^\d+\.weight$"}
    assert not shared_patterns(plan[1:])


class Gained(nn.Module):
    """A model whose gains are drawn from N(1, 0.02), as in some code."""

    def __init__(self, width: int, vocab: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocab, width)
        self.norms: Any = nn.ModuleList(nn.LayerNorm(width) for _ in range(4))
        self.head = nn.Linear(width, vocab, bias=False)
        for norm in self.norms:
            nn.init.normal_(norm.weight, 1.0, 0.02)  # type: ignore[arg-type]

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens)
        for norm in self.norms:
            x = norm(x)
        logits: Tensor = self.head(x)
        return logits


def gained(width: int, vocab: int) -> nn.Module:
    return Gained(width, vocab)


@pytest.mark.parametrize("folded", [False, True])
def test_a_gain_that_the_models_own_code_draws_is_left_by_init_and_emitted_python(
    tiny: dict[str, Any], prepare: Prepare, folded: bool
) -> None:
    tiny["model"] = {"factory": f"{__name__}:gained"}
    found, asked = exponents(prepare(tiny)), Target(64, {}, folded)
    recipe = build_recipe(found, asked)
    (pattern,) = (p for p in recipe.roles["vector"].parameters if p.pattern.endswith("weight$"))
    assert (pattern.keeps_draw, pattern.init_std, pattern.init_mean) == (True, None, 0.0)

    by_recipe, by_python = Gained(64, 256), Gained(64, 256)
    before = [[n.weight.clone() for n in m.norms] for m in (by_recipe, by_python)]
    first = [m.words.weight.clone() for m in (by_recipe, by_python)]
    loaded = load_recipe(io.StringIO(dump(recipe)))
    result = loaded.init_(by_recipe, torch.Generator().manual_seed(0))
    assert result.left == tuple(f"norms.{n}.weight" for n in range(4))
    text = emit(found, asked, "pytorch", allow_lossy=True).text
    assert text.count("# the model's own code draws ^norms") == 1
    executed(text)["init_"](by_python, multipliers="in_model")
    for model, own, words in zip((by_recipe, by_python), before, first, strict=True):
        assert all(torch.equal(n.weight, w) for n, w in zip(model.norms, own, strict=True))
        assert not torch.equal(model.words.weight, words)


def test_what_a_plan_says_of_matrices_inside_a_model_is_in_its_recipe(
    tiny: dict[str, Any], prepare: Prepare
) -> None:
    """A product over two axes, an embedding inside and a kept draw pass the static gate."""
    tiny["optimizer"] = {"weight_decay": 0.1}
    shape, more = (16, 16, 16), (2,)
    plan = (
        BaseParameter("words.weight", "embedding", (256, 16), (1,), 1.0, fan_in_axis=0),
        BaseParameter("lift.weight", "embedding", (16, 4), (0,), 1.0, fan_in_axis=1, in_block=True),
        BaseParameter("up.weight", "hidden", (16, 16), (0, 1), 0.25, fan_in_axis=1),
        BaseParameter(
            "mix.weight", "hidden", shape, (0, 1, 2), 0.1, fan_in_axis=1, further_fan_in_axes=more
        ),
        BaseParameter("mix.bias", "vector", (16,), (0,), 0.1, 0.3, keeps_draw=True),
        BaseParameter("head.weight", "readout", (256, 16), (1,), 0.25, fan_in_axis=1),
    )
    found = exponents(replace(prepare(tiny), base_plan=plan))
    recipe = build_recipe(found, Target(64, {}, folded=True))
    gate = static_gate(recipe)
    assert gate.verdict == "pass", [measure.sentence for measure in gate.measures]
    loaded, names = load_recipe(io.StringIO(dump(recipe))), [p.name for p in plan]
    values = {
        pattern.regex: recipe.roles[pattern.role].values(pattern.written)
        for pattern in loaded.patterns
    }
    words, lift, up, mix, bias, _ = (values[name_pattern(name)] for name in names)
    assert mix.lr == pytest.approx(up.lr / 4), "the fan-in grows by 16 and not by 4"
    assert (mix.init_std, up.init_std) == pytest.approx((0.1 / 4, 0.25 / 2))
    assert mix.lr * (mix.weight_decay or 0) == pytest.approx(up.lr * (up.weight_decay or 0))
    assert words.weight_decay == 0
    assert lift.lr * (lift.weight_decay or 0) == pytest.approx(up.lr * (up.weight_decay or 0))
    (own,) = (p.own for p in recipe.roles["embedding"].parameters if p.own)
    assert "fixed fan-in inside the model decays as hidden does is assumed" in (
        own.weight_decay.source
    )
    assert (bias.keeps_draw, bias.init_std) == (True, None)
    changed = recipe.model_dump(mode="json", by_alias=True)
    inside = next(p for p in changed["roles"]["embedding"]["parameters"] if "own" in p)
    inside["own"]["weight_decay"] |= {"value": 0.0}
    assert static_gate(Recipe.model_validate(changed)).verdict == "fail"
