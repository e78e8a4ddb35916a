"""Recipes of proxies other than the default model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.proxies.transformer import Transformer
from mutransfer_cli.recipe.build import build_recipe
from mutransfer_cli.recipe.formats import FORMATS
from mutransfer_cli.recipe.formats.dispatch import emit, format_of
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.rules.plan import BaseParameter, TargetModel
from mutransfer_cli.rules.schedule import schedule_factors
from mutransfer_cli.spec.decoder import Architecture
from mutransfer_cli.sweep.prepare import Sweep
from tests.recipe.formats.conftest import executed
from tests.recipe.test_build import exponents

Make = Callable[..., Exponents]


@pytest.fixture
def make(tiny: dict[str, Any], prepare: Callable[[dict[str, Any]], Sweep]) -> Make:
    def build(model: dict[str, Any], **rule: Any) -> Exponents:
        tiny["model"] = model
        tiny["parameterization"] |= rule
        tiny["sweep"]["widths"] = [16, 32]
        return exponents(prepare(tiny))

    return build


def recipe_of(found: Exponents, width: int = 256, **said: str) -> Recipe:
    return build_recipe(found, Target(width, said))


def test_options_that_are_not_the_default_are_what_it_holds_for(make: Make) -> None:
    held = recipe_of(make({"preset": "llama", "head_size": 8, "kv_group": 2})).holds_for
    assert held is not None
    expected = {"gains": "vector", "kv_group": 2, "mlp": "swiglu", "mlp_ratio": "7/2"}
    assert held.options == expected
    assert held.model_dump()["options"] == expected
    plain = recipe_of(make({"head_size": 8})).holds_for
    assert plain is not None
    assert {"options", "heads", "decay_fraction"}.isdisjoint(plain.model_dump())


def test_growing_heads_have_the_scale_of_the_target(make: Make) -> None:
    found = make({"heads": 4})
    recipe = recipe_of(found)
    assert recipe.attention_scale is not None
    assert (recipe.attention_scale.head_size, recipe.attention_scale.value) == (64, 1 / 64)
    assert recipe.holds_for is not None
    assert (recipe.holds_for.heads, recipe.holds_for.head_size) == (4, None)
    odd = recipe_of(found, 258)
    assert odd.attention_scale is None
    assert "width 258 is not a multiple of the proxies' 4 heads" in odd.warnings
    (warning,) = (w for w in recipe_of(found, heads="8").warnings if w.startswith("heads"))
    assert "the fit was made under 4 and the target has 8" in warning


def test_emitted_for_torch_gains_start_at_1_and_zero_inits_at_0(make: Make) -> None:
    options = {"gains": "vector", "biases": True, "query_init": "zero", "head_size": 8}
    text = emit(make(options), Target(32, {}), "pytorch", True).text
    model = Transformer(32, 256, 16, 1 / 8, Architecture.model_validate(options))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    executed(text)["init_"](model, multipliers="in_model", attention_scale="in_model")
    for name, parameter in model.named_parameters():
        if name.endswith(".gain"):
            assert (parameter == 1).all(), name
        elif name.endswith((".bias", "query.weight")):
            assert (parameter == 0).all(), name
        else:
            assert parameter.std() > 0.05, name


@pytest.mark.parametrize(
    ("readout_init", "factor"), [("rule", 1 / 16), ("standard", 1 / 4), ("zero", 0.0)]
)
def test_a_stock_model_gets_the_readout_of_the_proxies(
    make: Make, readout_init: str, factor: float
) -> None:
    """The proxies' readout starts at std 16^-1/2; the factor is that of 16 times the base width."""
    found = make({"head_size": 8, "readout_init": readout_init})
    names = executed(emit(found, Target(256, {}, folded=True), "transformers").text)
    assert names["INIT"]["readout"] == (0, pytest.approx(factor / 4), None)
    assert names["INIT"]["hidden"] == (0, pytest.approx(1 / 16), 256)
    readout = build_recipe(found, Target(256, {}, folded=True)).roles["readout"]
    assert readout.init_std_mult.value == pytest.approx(factor)
    assert readout.parameters[0].std == pytest.approx(factor / 4)
    said = {"rule": "Everett", "standard": "own multiplier or init", "zero": "zero in the base"}
    assert said[readout_init] in readout.init_std_mult.source


@pytest.mark.parametrize(("readout_init", "factor"), [("standard", 1 / 4), ("zero", 0.0)])
def test_so_does_a_target_that_is_given_as_a_model(
    make: Make, readout_init: str, factor: float
) -> None:
    head = BaseParameter("lm_head.weight", "readout", (64, 16), (1,), 0.5, fan_in_axis=1)
    up = BaseParameter("up.weight", "hidden", (16, 16), (0, 1), 0.5, fan_in_axis=1)
    shapes = {"lm_head.weight": (64, 256), "up.weight": (256, 256)}
    asked = Target(256, {}, folded=True, model=TargetModel(256, (head, up), shapes))
    roles = build_recipe(make({"head_size": 8, "readout_init": readout_init}), asked).roles
    (pattern,) = roles["readout"].parameters
    assert pattern.pattern == r"^lm_head\.weight$"
    assert pattern.std == pytest.approx(factor / 4), "as the proxies', not the target's"
    assert roles["hidden"].parameters[0].std == pytest.approx(1 / 16)


def test_tied_proxies_give_a_readout_and_no_embedding(make: Make) -> None:
    tied = make({"head_size": 8, "tied_embeddings": True}, name="standard", lr_rule="global")
    recipe = recipe_of(tied)
    assert set(recipe.roles) == {"readout", "hidden"}
    assert [p.pattern for p in recipe.roles["readout"].parameters] == [r"^readout\.weight$"]


STEPS, WARMUP = 10, 2
WSD = {
    "megatron": "'--lr-decay-style', 'WSD', '--lr-warmup-iters', '2', '--lr-warmup-init', '0.0', "
    "'--lr-wsd-decay-style', 'linear', '--lr-wsd-decay-iters', '3'",
    "torchtitan": "warmup_steps=2, decay_ratio=0.3, decay_type='linear', min_lr_factor=0.0",
    "olmo-core": "SCHEDULER = WSD(warmup=2, decay_fraction=0.3, warmup_min_lr=0.0)",
    "nemo-automodel": "lr_scheduler: lr_decay_style: WSD wsd_decay_steps: 3 lr_wsd_decay_style: "
    "linear lr_warmup_steps: 2",
}


@pytest.fixture
def wsd(tiny: dict[str, Any], make: Make) -> Exponents:
    tiny["train"] |= {"steps": STEPS, "warmup": WARMUP, "schedule": "wsd", "decay_fraction": 0.3}
    return make({"head_size": 8})


@pytest.mark.parametrize("to", FORMATS)
def test_wsd_is_written_where_the_target_has_it(wsd: Exponents, to: str) -> None:
    text = emit(wsd, Target(256, {}, folded=True), to, True).text
    joined = " ".join(line.strip() for line in text.splitlines()).replace("# ", "")
    assert "warm-up 2 of 10 steps, held constant, in the last 3 (0.3 of all) linear" in joined
    assert "schedule wsd, decay_fraction 0.3" in joined
    assert WSD.get(to, "") in joined
    assert ("its wsd schedule was read and not run" in joined) == bool(format_of(to).unverified)


def test_transformers_wsd_is_ours(wsd: Exponents) -> None:
    """Only the warm-up differs: all of transformers' begin at 0."""
    optimization: Any = pytest.importorskip("transformers.optimization")
    given = executed(emit(wsd, Target(256, {}, folded=True), "transformers", True).text)
    arguments = given["TRAINING_ARGUMENTS"]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = optimization.get_scheduler(
        arguments["lr_scheduler_type"],
        optimizer,
        num_warmup_steps=arguments["warmup_steps"],
        num_training_steps=STEPS,
        scheduler_specific_kwargs=arguments["lr_scheduler_kwargs"],
    )
    rates = []
    for _ in range(STEPS):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    ours = schedule_factors(STEPS, WARMUP, "wsd", 0.3)
    assert rates[WARMUP:] == pytest.approx(ours[WARMUP:])
