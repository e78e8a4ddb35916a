"""The state of an optimizer moves between the emitted file and `load_recipe`, either way."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import AdamW

from mutransfer_cli.recipe.formats.dispatch import emit
from mutransfer_cli.recipe.formats.sheet import sheet_of
from mutransfer_cli.recipe.loaded import load_recipe
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.spec.yaml_io import dump
from mutransfer_cli.sweep.prepare import Sweep
from tests.recipe.formats.conftest import executed
from tests.recipe.made import WIDTH
from tests.recipe.test_build import exponents

Prepare = Callable[[dict[str, Any]], Sweep]
Build = Callable[[nn.Module], torch.optim.Optimizer]


@pytest.fixture(params=[{}, {"kv_heads": 1}], ids=["one group a role", "queries of their own"])
def both(
    request: pytest.FixtureRequest, tiny: dict[str, Any], prepare: Prepare
) -> tuple[nn.Module, Build, Build]:
    """The proxy, and the emitted optimizer and that of `load_recipe` as functions of it."""
    tiny["model"] |= request.param
    tiny["optimizer"] = {"weight_decay": 0.1}
    sweep = prepare(tiny)
    emitted = emit(exponents(sweep), Target(WIDTH, {}, folded=True), "pytorch")
    file, recipe = executed(emitted.text), load_recipe(io.StringIO(dump(emitted.recipe)))
    assert list(emitted.recipe.groups()) == list(sheet_of(emitted.recipe).values)

    def of_file(model: nn.Module) -> torch.optim.Optimizer:
        (optimizer,) = file["optimizers"](model, attention_scale="in_model")
        return optimizer  # type: ignore[no-any-return]

    return sweep.model(WIDTH), of_file, lambda model: AdamW(recipe.param_groups(model))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        tokens = torch.arange(16).remainder(7 + step)[None]
        optimizer.zero_grad()
        model(tokens).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("begins", ["file", "loaded"])
def test_a_run_continues_under_the_other(both: tuple[nn.Module, Build, Build], begins: str) -> None:
    model, *builds = both
    first, second = builds if begins == "file" else reversed(builds)
    optimizer = first(model)
    train(model, optimizer, range(3))
    other_model = copy.deepcopy(model)
    other = second(other_model)
    names = [
        [group.get("role") or group["name"] for group in each.param_groups]
        for each in (optimizer, other)
    ]
    assert names[0] == names[1]
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(model, optimizer, range(3, 6))
    train(other_model, other, range(3, 6))
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, other_model.get_parameter(name)), name
