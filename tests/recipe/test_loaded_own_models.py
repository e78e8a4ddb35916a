"""A folded recipe trains the examples of own models, and a tied GPT, as the engine did."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.proxies.batch import mapped
from mutransfer_cli.proxies.example import call_of
from mutransfer_cli.recipe.build import build_recipe
from mutransfer_cli.recipe.loaded import load_recipe
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.rules.plan import AxisName
from mutransfer_cli.spec.yaml_io import dump
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.slots import Job, Slots, schedule_tensor
from tests.conftest import CPU
from tests.recipe.test_build import exponents
from tests.test_recipes import EXAMPLES, short
from tests.train.trained import train_jobs

Prepare = Callable[[dict[str, Any]], Sweep]
WIDTH, SEED, STEPS = 64, 3, 12
GPT = {"factory": "tests.proxies.nano_gpt:nano_gpt"}


def recipe_job(sweep: Sweep, recipe: Recipe) -> Job:
    """The run that the recipe is for, as the engine trains it."""
    protocol = sweep.protocol
    axes: dict[AxisName, float] = {"lr": recipe.base_lr.value}
    plan = protocol.plan(sweep.base_plan, WIDTH, axes, sweep.shapes.get(WIDTH))
    return Job("alone", plan, SEED)


def batches(sweep: Sweep, job: Job) -> tuple[Slots, list[Any]]:
    """The slots of a job before its first step, and the batches of its steps."""
    trainer = sweep.trainer(WIDTH, DeviceText.on(CPU, sweep.corpus))
    slots, found = trainer.slots([job], 1), []
    for step in range(sweep.protocol.train.steps):
        slots.batches.load([step])
        batch = slots.batches.read(torch.tensor([step]))
        found.append(mapped(lambda x: x[0].clone(), batch))
    return slots, found


def plain_losses(sweep: Sweep, recipe: Recipe) -> Tensor:
    """Train in a plain loop: the groups of the recipe, AdamW, a schedule and nothing else."""
    train, loaded = sweep.protocol.train, load_recipe(io.StringIO(dump(recipe)))
    job, model = recipe_job(sweep, recipe), sweep.model(WIDTH)
    slots, data = batches(sweep, job)
    loaded.init_(model)  # constants, and the gain that takes a tied weight's output multiplier
    factors = slots.trials.multipliers
    with torch.no_grad():
        for planned in job.plan:
            if planned.role not in ("vector", "scalar"):
                start = slots.trials.params[planned.name][0]
                model.get_parameter(planned.name).copy_(factors[planned.name] * start)
    optimizer = torch.optim.AdamW(loaded.param_groups(model))
    schedule = [*schedule_tensor(train).double().tolist(), 0.0]
    scheduler = LambdaLR(optimizer, lambda step: schedule[step])
    loaded.verify(model, optimizer, scheduler).raise_for_differences()
    call, losses = call_of(model, sweep.example), []
    for batch in data:
        values = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        loss = call.loss(model, values, batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        scheduler.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def assert_trains_alike(sweep: Sweep) -> None:
    recipe = build_recipe(exponents(sweep), Target(WIDTH, {}, folded=True))
    trainer = sweep.trainer(WIDTH, DeviceText.on(CPU, sweep.corpus))
    fused = train_jobs(trainer, [recipe_job(sweep, recipe)], 1).train_losses[:, 0]
    plain = plain_losses(sweep, recipe)
    torch.testing.assert_close(plain, fused, rtol=1e-4, atol=1e-4)
    assert plain[-1] < plain[0]


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_trains_in_a_plain_loop_as_in_the_engine(name: str) -> None:
    assert_trains_alike(short(name, STEPS, widths=(32, WIDTH), clip=None))


def test_a_tied_gpt_written_for_training_does_too(tiny: dict[str, Any], prepare: Prepare) -> None:
    tiny["model"] = GPT
    tiny["train"] |= {"steps": STEPS, "batch": 4, "context": 16, "clip": None}
    tiny["parameterization"] |= {"name": "mup"}
    tiny["sweep"] |= {"widths": [16, WIDTH]}
    sweep = prepare(tiny)
    assert [p.name for p in sweep.base_plan if p.is_tied_readout] == ["transformer.wte.weight"]
    assert_trains_alike(sweep)
