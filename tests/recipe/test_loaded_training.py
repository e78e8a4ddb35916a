"""A plain module and torch.optim.AdamW with a recipe train as the engine with the same plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from mutransfer_cli.data.corpus import DeviceText, gather, train_offsets
from mutransfer_cli.proxies.noise import stream_generator
from mutransfer_cli.recipe.loaded import LoadedRecipe
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.slots import Job, schedule_tensor
from tests.conftest import CPU
from tests.recipe.made import WIDTH, compiled, loaded
from tests.recipe.test_build import exponents, recipe_of
from tests.train.trained import train_jobs

Prepare = Callable[[dict[str, Any]], Sweep]
SEED = 3
DECAYS = {"lr_coupled": 0.1, "independent": 0.003}


def engine_losses(sweep: Sweep, recipe: LoadedRecipe, folded: bool) -> Tensor:
    protocol = sweep.protocol
    values: Any = {"lr": recipe.recipe.base_lr.value}
    plan = protocol.parameterization.plan(
        protocol.optimizer, sweep.base_plan, WIDTH, values, folded
    )
    trainer = sweep.trainer(WIDTH, DeviceText.on(CPU, sweep.corpus))
    return train_jobs(trainer, [Job("alone", plan, SEED)], 1).train_losses[:, 0]


def recipe_losses(sweep: Sweep, recipe: LoadedRecipe) -> Tensor:
    """Train as a user would, with the multipliers applied to the weights in the forward pass."""
    protocol, model = sweep.protocol, sweep.model(WIDTH)
    initialised = recipe.init_(model, stream_generator(SEED, "init"), attention_scale="in_model")
    assert not initialised.left
    multipliers = recipe.multipliers(model)
    folded = set(multipliers.values()) == {1.0}
    groups = recipe.param_groups(compiled(model), multipliers=None if folded else "in_model")
    optimizer = torch.optim.AdamW(groups)
    factors = [*schedule_tensor(protocol.train).double().tolist(), 0.0]
    scheduler = LambdaLR(optimizer, lambda step: factors[step])
    result = recipe.verify(
        model, optimizer, scheduler, steps=5, attention_scale="in_model", max_norm=1.0
    )
    result.raise_for_differences()
    offsets = train_offsets(sweep.corpus, protocol.train, SEED)
    text, losses = torch.from_numpy(sweep.corpus.train), []
    for step in range(protocol.train.steps):
        tokens = gather(text, offsets[step], protocol.train.context)
        values = {name: p * multipliers[name] for name, p in model.named_parameters()}
        logits = torch.func.functional_call(model, values, (tokens[:, :-1],))
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        losses.append(loss.detach())
    recipe.verify(model, optimizer, attention_scale="in_model").raise_for_differences()
    return torch.stack(losses)


@pytest.mark.parametrize("folded", [True, False], ids=["folded", "unfolded"])
@pytest.mark.parametrize("convention", DECAYS)
def test_a_recipe_trains_as_the_engine_does(
    tiny: dict[str, Any], prepare: Prepare, convention: str, folded: bool
) -> None:
    tiny["parameterization"]["decay_convention"] = convention
    tiny["optimizer"] = {"weight_decay": DECAYS[convention]}
    tiny["train"] |= {"steps": 20, "clip": 1.0}
    sweep = prepare(tiny)
    recipe = loaded(recipe_of(exponents(sweep), WIDTH, folded=folded))
    engine, plain = engine_losses(sweep, recipe, folded), recipe_losses(sweep, recipe)
    assert engine[-1] < 0.8 * engine[0], "it must have learned, or it would say nothing"
    torch.testing.assert_close(plain, engine, rtol=1e-5, atol=1e-5)
