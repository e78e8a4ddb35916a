"""The examples of own models and own data: each trains, and its best rate stays as width grows.

The slow test trains whole sweeps: minutes on two CPU cores.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mutransfer_cli.data.corpus import DeviceText, train_offsets
from mutransfer_cli.proxies.noise import stream_generator
from mutransfer_cli.spec.model import FactorySpec
from mutransfer_cli.spec.sources import load_spec, shipped_recipes
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.slots import Job, schedule_tensor
from tests.conftest import CPU
from tests.recipe.made import loaded
from tests.recipe.test_build import exponents, recipe_of
from tests.train.trained import train_all, train_jobs

FOLDER = Path(__file__).parent.parent / "recipes" / "own_models"
EXAMPLES = sorted(name for name in shipped_recipes() if name.startswith("own_models/"))
EXPONENT = re.compile(r"^exponent of lr: (\S+)  95% interval (\S+) to (\S+)", re.MULTILINE)
PAGE = FOLDER.parent.parent / "mutransfer_cli" / "docs" / "data.md"
SHOWN = re.compile(r"^\| `(own_models/\w+)` \| (\S+) \((\S+) to (\S+)\)", re.MULTILINE)


def short(name: str, steps: int, widths: tuple[int, ...], **changed: Any) -> Sweep:
    """The example at few steps and widths, and at one seed."""
    spec, path = load_spec(name)
    few = {"steps": steps, "warmup": 2, "eval_batches": 2}
    train = spec.train.model_copy(update=few | changed)
    grid = spec.sweep.model_copy(
        update={"widths": widths, "axes": {"lr": (2**-8, 2**-6)}, "seeds": (0,)}
    )
    return Sweep.prepare(spec.model_copy(update={"train": train, "sweep": grid}), path.parent)


def test_there_are_four() -> None:
    assert [f"own_models/{path.stem}" for path in sorted(FOLDER.glob("*.yaml"))] == EXAMPLES
    assert len(EXAMPLES) == 4


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_needs_no_roles_and_learns(name: str) -> None:
    spec, _ = load_spec(name)
    assert isinstance(spec.model, FactorySpec)
    assert not spec.model.roles
    sweep = short(name, steps=30, widths=(32,))
    assert {p.role for p in sweep.base_plan} >= {"embedding", "hidden", "readout", "vector"}
    assert [p.name for p in sweep.base_plan if p.role == "readout"] in (
        ["head.weight"],
        ["last.weight"],
    )
    trained = train_all(sweep, sweep.trials[32], CPU)
    first, last = trained.train_losses[:3].mean(0), trained.train_losses[-3:].mean(0)
    assert bool((last < first).all())


@pytest.mark.parametrize("name", EXAMPLES)
def test_trials_of_an_example_are_trained_side_by_side(name: str) -> None:
    sweep = short(name, steps=3, widths=(32,))
    together = train_all(sweep, sweep.trials[32], CPU)
    for index, trial in enumerate(sweep.trials[32]):
        alone = train_all(sweep, [trial], CPU)
        torch.testing.assert_close(together.train_losses[:, index], alone.train_losses[:, 0])


def test_a_users_loop_with_the_generator_of_the_seed_trains_as_the_engine_does() -> None:
    width, seed = 64, 3
    sweep = short("own_models/diffusion", steps=8, widths=(width,))
    protocol, model = sweep.protocol, sweep.model(width)
    recipe = loaded(recipe_of(exponents(sweep), width))
    lr: Any = {"lr": recipe.recipe.base_lr.value}
    plan = protocol.parameterization.plan(
        protocol.optimizer, sweep.base_plan, width, lr, shapes=sweep.shapes.get(width)
    )
    trainer = sweep.trainer(width, DeviceText.on(CPU, sweep.corpus))
    engine = train_jobs(trainer, [Job("alone", plan, seed)], 1).train_losses[:, 0]

    # the recipe's init draws the same values in another order
    recipe.init_(model, stream_generator(seed, "init"), attention_scale="in_model")
    first = trainer.ensemble.start([plan], [seed]).params
    for key, p in model.named_parameters():
        torch.testing.assert_close(p.std(), first[key][0].std(), rtol=0.1, atol=1e-6)
    model.load_state_dict({key: stack[0].detach() for key, stack in first.items()})
    multipliers = recipe.multipliers(model)
    groups = recipe.param_groups(model, multipliers="in_model")
    optimizer, factors = torch.optim.AdamW(groups), schedule_tensor(protocol.train)
    peaks, losses = [group["lr"] for group in optimizer.param_groups], []
    text = DeviceText.on(CPU, sweep.corpus)
    for step, offsets in enumerate(train_offsets(sweep.corpus, protocol.train, seed)):
        batch = text.batch(text.train, offsets, 1)
        numbers = stream_generator(seed, f"noise:{step}")
        batch = {"image": batch["image"], "generator": numbers}
        values = {key: p * multipliers[key] for key, p in model.named_parameters()}
        loss = torch.func.functional_call(model, values, (), batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * float(factors[step])
        optimizer.step()
        losses.append(loss.detach())
    assert float(engine.std()) > 0.01, "it must have trained, or it would say nothing"
    torch.testing.assert_close(torch.stack(losses), engine, rtol=1e-4, atol=1e-4)


def test_the_models_are_short() -> None:
    for path in FOLDER.glob("*.py"):
        lines = path.read_text().splitlines()
        code = [line for line in lines if line.strip() and not line.lstrip().startswith(("#", '"'))]
        assert len(code) <= 60, path


def test_every_example_has_its_exponent_on_the_page() -> None:
    assert sorted(name for name, *_ in SHOWN.findall(PAGE.read_text())) == EXAMPLES


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_best_rate_is_the_same_at_every_width(
    name: str, run: Callable[..., Any], tmp_path: Path
) -> None:
    assert run("sweep-proxy", name, "-o", tmp_path).exit_code == 0
    assert json.loads((tmp_path / "trials.jsonl").read_text().splitlines()[0])["kind"] == "sweep"
    fitted = run("fit-exponents", tmp_path)
    assert fitted.exit_code == 0, fitted.stderr
    ((value, low, high),) = EXPONENT.findall(fitted.stderr)
    shown = {key: float(x) for key, x, _, _ in SHOWN.findall(PAGE.read_text())}
    assert abs(float(value)) <= 0.25
    assert float(low) <= 0 <= float(high)
    assert abs(float(value) - shown[name]) <= 0.1
    assert run("transfer", tmp_path, "--width", 512, "--fold").exit_code == 0
