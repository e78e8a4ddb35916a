"""Mistakes that were reported in public, each with its address: `verify` names them.

Each test first shows the report's own effect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

from mutransfer_cli.recipe.loaded import LoadedRecipe
from mutransfer_cli.sweep.prepare import Sweep
from tests.recipe.made import WIDTH, Net, loaded
from tests.recipe.stand_ins import Larc, of_class
from tests.recipe.test_build import exponents, recipe_of

Prepare = Callable[[dict[str, Any]], Sweep]
AUX = ("deepspeed.runtime.zero.muon.muon_optimizer", "MuonWithAuxAdam")


class Halving:
    """A scheduler that reads the groups of what it is given at every step."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer

    def step(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] *= 0.5


class HalvingGroups:
    """A scheduler that keeps the groups themselves."""

    def __init__(self, groups: list[dict[str, Any]]) -> None:
        self.param_groups = groups

    def step(self) -> None:
        for group in self.param_groups:
            group["lr"] *= 0.5


def test_larc_keeps_groups_that_a_loaded_state_replaced(recipe: LoadedRecipe) -> None:
    """https://github.com/NVIDIA/apex/issues/766"""
    model = Net()
    optimizer = AdamW(recipe.param_groups(model))
    larc = Larc(optimizer)
    before = recipe.verify(model, larc, Halving(larc), optimizer_class="adamw")
    assert before.ok, before
    larc.load_state_dict(optimizer.state_dict())
    scheduler, rates = Halving(larc), [group["lr"] for group in optimizer.param_groups]
    for given in (larc, optimizer):
        (difference,) = recipe.verify(model, given, scheduler, optimizer_class="adamw").differences
        assert difference.name == "scheduler"
        assert difference.sentence.startswith("Halving changes no lr here: it holds another opt")
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == rates


def test_a_scheduler_keeps_groups_that_a_checkpoint_replaced(recipe: LoadedRecipe) -> None:
    """https://github.com/microsoft/rat-sql/issues/45"""
    model = Net()
    optimizer = AdamW(recipe.param_groups(model))
    scheduler = HalvingGroups(optimizer.param_groups)
    assert recipe.verify(model, optimizer, scheduler).ok
    optimizer.load_state_dict(optimizer.state_dict())
    (difference,) = recipe.verify(model, optimizer, scheduler).differences
    assert difference.name == "scheduler"
    assert "or groups that this one replaced (as load_state_dict" in difference.sentence
    rates = [group["lr"] for group in optimizer.param_groups]
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == rates
    assert recipe.verify(model, optimizer, HalvingGroups(optimizer.param_groups)).ok


def test_a_group_added_later_is_not_scheduled(recipe: LoadedRecipe) -> None:
    """https://github.com/pytorch/pytorch/issues/79888"""
    model = Net()
    *groups, last = recipe.param_groups(model)
    optimizer = AdamW(groups)
    scheduler = CosineAnnealingWarmRestarts(optimizer, 10)
    optimizer.add_param_group(last)
    (difference,) = recipe.verify(model, optimizer, scheduler).differences
    assert difference.name == "scheduler"
    assert difference.parameters == ("layers.0.weight", "layers.1.weight")
    assert "was made before the group of hidden" in difference.sentence


@pytest.fixture
def muon(tiny: dict[str, Any], prepare: Prepare) -> tuple[LoadedRecipe, torch.nn.Module]:
    """A recipe for Muon and AdamW that clips at norm 1, and the proxy."""
    tiny["optimizer"] = {"name": "muon", "weight_decay": 0.1}
    tiny["train"]["clip"] = 1.0
    sweep = prepare(tiny)
    return loaded(recipe_of(exponents(sweep), WIDTH, folded=True)), sweep.model(WIDTH)


def with_aux_adam(recipe: LoadedRecipe, model: torch.nn.Module, module: str) -> Optimizer:
    """One optimizer for both parts of a recipe, as DeepSpeed and Keller Jordan's Muon have it."""
    groups = [
        {**g, "use_muon": True, "momentum": 0.95} for g in recipe.param_groups(model, part="muon")
    ]
    groups += [{**g, "use_muon": False} for g in recipe.param_groups(model, part="adamw")]
    return of_class(module, AUX[1], groups, {})


def test_deepspeed_clips_what_muon_has_orthogonalised(
    muon: tuple[LoadedRecipe, torch.nn.Module],
) -> None:
    """https://github.com/deepspeedai/DeepSpeed/issues/7713 (comment of September 2026),
    https://github.com/deepspeedai/DeepSpeed/issues/8439
    """
    recipe, model = muon
    optimizer = with_aux_adam(recipe, model, AUX[0])
    stated: Any = {"attention_scale": "in_model"}
    assert recipe.verify(model, optimizer, **stated).ok
    (difference,) = recipe.verify(model, optimizer, max_norm=1.0, **stated).differences
    assert difference.name == "clip"
    assert "DeepSpeed's ZeRO clips hidden" in difference.sentence
    assert "divides each step by its own norm, whatever lr says" in difference.sentence
    hidden = {t.name for t in recipe.plan(model) if t.role == "hidden"}
    assert set(difference.parameters) == hidden
    # elsewhere the gradient is clipped before, as in the fit
    elsewhere = with_aux_adam(recipe, model, "muon")
    assert recipe.verify(model, elsewhere, max_norm=1.0, **stated).ok
    (difference,) = recipe.verify(model, elsewhere, max_norm=0.5, **stated).differences
    assert not hidden & set(difference.parameters)
    assert "do not shrink with it, as Muon orthogonalises them" in difference.sentence


def test_deepspeeds_schedule_sets_one_rate_for_muon_and_adam(
    muon: tuple[LoadedRecipe, torch.nn.Module],
) -> None:
    """https://github.com/deepspeedai/DeepSpeed/issues/7713"""
    recipe, model = muon
    optimizer = with_aux_adam(recipe, model, AUX[0])

    class WarmupLR(Halving):
        def step(self) -> None:
            for group in self.optimizer.param_groups:
                group["lr"] = 1e-3

    (difference,) = recipe.verify(
        model, optimizer, WarmupLR(optimizer), attention_scale="in_model"
    ).differences
    assert difference.name == "one_rate"
    assert "after 1 scheduler step lr is 0.001 for all groups" in difference.sentence
