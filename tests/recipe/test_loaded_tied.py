"""A recipe for tied weights trains a plain module as the engine did, folded or not."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from mutransfer_cli.check.static import static_gate
from mutransfer_cli.data.corpus import DeviceText, gather, train_offsets
from mutransfer_cli.errors import InputError, NotExpressible
from mutransfer_cli.proxies.noise import stream_generator
from mutransfer_cli.recipe.against_model import check_model
from mutransfer_cli.recipe.build import build_recipe
from mutransfer_cli.recipe.formats.dispatch import emit
from mutransfer_cli.recipe.loaded import LoadedRecipe, load_recipe
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.rules.plan import BaseParameter, TargetModel
from mutransfer_cli.spec.yaml_io import dump
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.slots import Job, schedule_tensor
from tests.conftest import CPU
from tests.proxies.tied_gpts import Gpt, OneName, Wrapper
from tests.proxies.tied_plans import WTE, spec_of
from tests.recipe.formats.conftest import executed
from tests.recipe.test_build import exponents
from tests.train.trained import train_jobs

Prepare = Callable[[dict[str, Any]], Sweep]
WIDTH, SEED, VOCAB = 64, 3, 256


def prepared(tiny: dict[str, Any], prepare: Prepare, name: str = "gpt") -> Sweep:
    tiny["train"] |= {"steps": 12, "batch": 4, "clip": None}
    tiny["optimizer"] = {"weight_decay": 0.1}
    return prepare(spec_of(tiny, name))


def engine_losses(sweep: Sweep, recipe: Recipe) -> Tensor:
    protocol = sweep.protocol
    plan = protocol.parameterization.plan(
        protocol.optimizer, sweep.base_plan, WIDTH, {"lr": recipe.base_lr.value}
    )
    trainer = sweep.trainer(WIDTH, DeviceText.on(CPU, sweep.corpus))
    return train_jobs(trainer, [Job("alone", plan, SEED)], 1).train_losses[:, 0]


def plain_losses(sweep: Sweep, recipe: LoadedRecipe, model: nn.Module) -> Tensor:
    """Train as a user would, with every name's multiplier on its weight in the forward pass."""
    train = sweep.protocol.train
    assert not recipe.init_(model, stream_generator(SEED, "init")).left
    factors = recipe.multipliers(model)
    folded = set(factors.values()) == {1.0}
    groups = recipe.param_groups(model, multipliers=None if folded else "in_model")
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    optimizer = torch.optim.AdamW(groups)
    schedule = [*schedule_tensor(train).double().tolist(), 0.0]
    scheduler = LambdaLR(optimizer, lambda step: schedule[step])
    recipe.verify(model, optimizer, scheduler).raise_for_differences()
    offsets = train_offsets(sweep.corpus, train, SEED)
    text, losses = torch.from_numpy(sweep.corpus.train), []
    for step in range(train.steps):
        tokens = gather(text, offsets[step], train.context)
        named = model.named_parameters(remove_duplicate=False)
        values = {name: p if folded else p * factors[name] for name, p in named}
        logits = torch.func.functional_call(model, values, (tokens[:, :-1],), tie_weights=False)
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        scheduler.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def reloaded(recipe: Recipe) -> LoadedRecipe:
    return load_recipe(io.StringIO(dump(recipe)))


def target(sweep: Sweep, base_plan: tuple[BaseParameter, ...]) -> TargetModel:
    shapes = {name: tuple(p.shape) for name, p in sweep.model(WIDTH).named_parameters()}
    return TargetModel(WIDTH, base_plan, shapes)


@pytest.mark.parametrize("folded", [False, True], ids=["unfolded", "folded"])
@pytest.mark.parametrize(
    ("swept", "kind"), [("gpt", Gpt), ("wrapped", Gpt), ("gpt", Wrapper), ("wrapped", Wrapper)]
)
def test_a_tied_model_trains_as_the_engine_does(
    tiny: dict[str, Any], prepare: Prepare, folded: bool, swept: str, kind: type[nn.Module]
) -> None:
    """Also below another attribute than the proxies, or below none."""
    sweep = prepared(tiny, prepare, swept)
    recipe = build_recipe(exponents(sweep), Target(WIDTH, {}, folded))
    assert static_gate(recipe).verdict == "pass"
    plain = plain_losses(sweep, reloaded(recipe), kind(WIDTH, VOCAB))
    torch.testing.assert_close(plain, engine_losses(sweep, recipe), rtol=1e-4, atol=1e-4)


def test_the_names_of_a_tied_weight_have_their_multipliers(
    tiny: dict[str, Any], prepare: Prepare
) -> None:
    found = exponents(prepared(tiny, prepare))
    recipe = reloaded(build_recipe(found, Target(WIDTH, {}, folded=False)))
    factors = recipe.multipliers(Gpt(WIDTH, VOCAB))
    assert (factors[WTE], factors["lm_head.weight"]) == pytest.approx((2.0, 0.5))
    with pytest.raises(InputError, match=r"transformer\.wte\.weight as readout 0\.5"):
        recipe.param_groups(Gpt(WIDTH, VOCAB))
    one = recipe.multipliers(OneName(WIDTH, VOCAB))
    assert (one[WTE], one[f"{WTE} as readout"]) == pytest.approx((2.0, 0.5))


def test_folded_the_gain_before_the_readout_takes_the_output_multiplier(
    tiny: dict[str, Any], prepare: Prepare
) -> None:
    found = exponents(prepared(tiny, prepare))
    recipe = build_recipe(found, Target(WIDTH, {}, folded=True))
    plan = {p.name: p for p in reloaded(recipe).plan(Gpt(WIDTH, VOCAB))}
    wte, gain, bias, other = (
        plan[name]
        for name in (
            WTE,
            *(f"transformer.{n}" for n in ("ln_f.weight", "ln_f.bias", "h.0.ln_1.weight")),
        )
    )
    assert (wte.multiplier, wte.output_multiplier) == (1.0, 1.0)
    assert (gain.init_mean, bias.init_mean, other.init_mean) == (0.25, 0.0, 1.0)
    assert (gain.lr, bias.lr) == pytest.approx((other.lr / 4, other.lr / 4))
    assert gain.eps == pytest.approx(4 * (other.eps or 0))
    assert not gain.weight_decay


def test_without_such_a_gain_it_stays_in_the_forward_pass_and_is_said(
    tiny: dict[str, Any], prepare: Prepare
) -> None:
    sweep = prepared(tiny, prepare)
    plan = tuple(replace(p, before_readout=False) for p in sweep.base_plan)
    found = exponents(replace(sweep, base_plan=plan))
    recipe = build_recipe(found, Target(WIDTH, {}, folded=True))
    (said,) = (w for w in recipe.warnings if "output multiplier" in w)
    assert "output multiplier 0.250 of ^transformer" in said
    assert static_gate(recipe).verdict == "pass"
    plain = plain_losses(sweep, reloaded(recipe), Gpt(WIDTH, VOCAB))
    torch.testing.assert_close(plain, engine_losses(sweep, recipe), rtol=1e-4, atol=1e-4)
    with pytest.raises(NotExpressible, match=r"cannot hold: the output multiplier 0\.25"):
        emit(found, Target(WIDTH, {}, model=target(sweep, plan)), "transformers")
    text = emit(found, Target(WIDTH, {}, folded=False), "pytorch").text
    assert "makes the logits, in place of multipliers\noutput_multiplier = 0.5\n" in text
    with pytest.raises(ValueError, match=r"'readout': 0\.5"):
        executed(text)["param_groups"](Gpt(WIDTH, VOCAB))


@pytest.mark.parametrize("to", ["pytorch", "transformers"])
def test_emitted_python_trains_the_folded_model(
    tiny: dict[str, Any], prepare: Prepare, to: str
) -> None:
    sweep = prepared(tiny, prepare)
    found = exponents(sweep)
    asked = Target(WIDTH, {}, folded=True, model=target(sweep, sweep.base_plan))
    emitted = executed(emit(found, asked, to).text)
    model = Gpt(WIDTH, VOCAB)
    groups = emitted["param_groups"](model)
    by_recipe = reloaded(build_recipe(found, asked)).param_groups(model)
    rates = [{id(p): g["lr"] for g in each for p in g["params"]} for each in (groups, by_recipe)]
    assert rates[0].keys() == rates[1].keys()
    assert all(rate == pytest.approx(rates[1][key]) for key, rate in rates[0].items())
    emitted["init_"](model)
    assert torch.equal(model.get_parameter("transformer.ln_f.weight"), torch.full((WIDTH,), 0.25))


@pytest.mark.parametrize("to", ["optax", "megatron", "torchtitan", "transformers"])
def test_formats_with_names_of_their_own_refuse_tied_weights(
    tiny: dict[str, Any], prepare: Prepare, to: str
) -> None:
    found = exponents(prepared(tiny, prepare))
    with pytest.raises(NotExpressible, match=f"to {to}: embedding and readout are one tied weight"):
        emit(found, Target(WIDTH, {}), to)


def test_a_changed_output_multiplier_is_found_by_the_static_gate(
    tiny: dict[str, Any], prepare: Prepare
) -> None:
    recipe = build_recipe(exponents(prepared(tiny, prepare)), Target(WIDTH, {}, folded=False))
    document = recipe.model_dump(mode="json", by_alias=True)
    tied = next(p for p in document["roles"]["embedding"]["parameters"] if "wte" in p["pattern"])
    tied["output_multiplier"]["value"] = 1.0
    gate = static_gate(Recipe.model_validate(document))
    assert gate.verdict == "fail"
    sentences = " ".join(measure.sentence for measure in gate.measures)
    assert (
        "output_multiplier of ^transformer\\.wte\\.weight$ (embedding) is 1, by the rule 0.5"
        in sentences
    )
    assert "so that the multiplier is missing" in sentences


SCALED = 16  # base width of `scaled_output`


class ScaledOutput(Gpt):
    """A Gpt whose own code puts the output multiplier of muP on the logits."""

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = super().forward(tokens)
        factor: float = (self.lm_head.in_features / SCALED) ** -0.5
        return logits * factor


def scaled_output(width: int, vocab: int) -> nn.Module:
    return ScaledOutput(width, vocab)


@pytest.mark.parametrize(
    ("folded", "model", "finding"),
    [
        (True, "tests.proxies.tied_gpts:gpt", None),
        (True, f"{__name__}:scaled_output", "muP is applied twice"),
        (False, "tests.proxies.tied_gpts:gpt", "the readout multiplier is missing"),
        (False, f"{__name__}:scaled_output", None),
    ],
)
def test_a_model_is_asked_for_the_output_multiplier(
    tiny: dict[str, Any], prepare: Prepare, folded: bool, model: str, finding: str | None
) -> None:
    recipe = build_recipe(exponents(prepared(tiny, prepare)), Target(WIDTH, {}, folded))
    found = [f for f in check_model(recipe, "recipe.yaml", model).findings if "output" in f]
    assert len(found) == (finding is not None), found
    assert all(finding in sentence for sentence in found if finding)


def test_a_target_is_tied_as_the_proxies_were(tiny: dict[str, Any], prepare: Prepare) -> None:
    sweep = prepared(tiny, prepare)
    found = exponents(sweep)
    apart = replace(sweep.base_plan[0], is_tied_readout=False)
    head = replace(apart, name="lm_head.weight", role="readout", fan_in_axis=1)
    untied = (apart, *sweep.base_plan[1:], head)
    shapes = {head.name: (VOCAB, WIDTH)} | dict(target(sweep, untied).shapes)
    with pytest.raises(InputError, match=r"lm_head\.weight: is a weight of the readout alone"):
        build_recipe(found, Target(WIDTH, {}, model=TargetModel(WIDTH, untied, shapes)))
    of_two = exponents(replace(sweep, base_plan=untied))
    with pytest.raises(InputError, match=r"wte\.weight: is embedding and readout, and the fitted"):
        build_recipe(of_two, Target(WIDTH, {}, model=target(sweep, sweep.base_plan)))
