"""Groups for torch optimizers, and initial weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.recipe.patterns import RolePattern, claim
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.sweep.prepare import Sweep
from tests.recipe.made import NAMES, WIDTH, Net, loaded
from tests.recipe.test_build import exponents, recipe_of
from tests.recipe.test_loaded_plan import global_scope

Prepare = Callable[[dict[str, Any]], Sweep]


def test_parameters_of_a_role_with_equal_values_share_a_group(folded: Recipe) -> None:
    model = Net()
    groups = loaded(folded, NAMES).param_groups(model)
    assert [group["name"] for group in groups] == ["embedding", "readout", "hidden"]
    assert [group["param_names"] for group in groups] == [
        ["wte.weight"],
        ["head.weight"],
        ["layers.0.weight", "layers.1.weight"],
    ]
    for group in groups:
        assert all(isinstance(parameter, torch.nn.Parameter) for parameter in group["params"])
        role = folded.roles[group["name"]]
        assert group["lr"] == role.lr.value
        assert role.eps is not None
        assert (group["eps"], group["betas"]) == (role.eps.value, (0.9, 0.95))

    def one_eps(document: dict[str, Any]) -> None:
        for key in ("eps", "weight_decay", "lr"):
            document["roles"]["readout"][key] = document["roles"]["hidden"][key]

    apart = loaded(folded, NAMES, one_eps).param_groups(model)
    assert [group["name"] for group in apart] == ["embedding", "readout", "hidden"]


def test_torch_takes_them_and_schedules_multiply_them(folded: Recipe) -> None:
    optimizer = torch.optim.AdamW(loaded(folded, NAMES).param_groups(Net()))
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5)
    for group in optimizer.param_groups:
        assert group["initial_lr"] == folded.roles[group["name"]].lr.value
        assert group["lr"] == 0.5 * group["initial_lr"]
    assert "param_names" in optimizer.state_dict()["param_groups"][0]


def test_multipliers_are_not_forgotten(unfolded: Recipe, sweep: Sweep) -> None:
    recipe, model = loaded(unfolded), sweep.model(WIDTH)
    with pytest.raises(
        InputError, match=r"has multipliers \(embedding 2, readout 0\.5\) that belong into the forw"
    ):
        recipe.param_groups(model)
    assert len(recipe.param_groups(model, multipliers="in_model")) == 3
    multipliers = recipe.multipliers(model)
    assert set(multipliers) == set(dict(model.named_parameters()))
    assert (multipliers["embedding.weight"], multipliers["readout.weight"]) == (2, 0.5)


def test_a_global_recipe_is_one_group_and_says_so(folded: Recipe) -> None:
    model = Net(gains=True)
    with pytest.warns(UserWarning, match=r"one group for all parameters \(scope: global\)"):
        (group,) = loaded(folded, edit=global_scope).param_groups(model)
    assert set(group) == {"params", "param_names", "lr", "weight_decay", "name"}
    assert group["name"] == "all"
    assert torch.optim.AdamW([group]).param_groups[0]["eps"] == 1e-8

    def without_decay(document: dict[str, Any]) -> None:
        global_scope(document)
        document["base_weight_decay"] = None

    with pytest.warns(UserWarning, match="betas and weight_decay are left to the optimizer"):
        (group,) = loaded(folded, edit=without_decay).param_groups(model)
    assert "weight_decay" not in group


def test_two_optimizers_have_groups_of_their_own(tiny: dict[str, Any], prepare: Prepare) -> None:
    tiny["optimizer"] = {"name": "muon"}
    sweep = prepare(tiny)
    recipe, model = loaded(recipe_of(exponents(sweep), WIDTH, folded=True)), sweep.model(WIDTH)
    with pytest.raises(InputError, match="has parameters for adamw and for muon; build one"):
        recipe.param_groups(model)
    (hidden,) = recipe.param_groups(model, part="muon")
    assert (hidden["name"], "eps" in hidden) == ("hidden", False)
    rest = recipe.param_groups(model, part="adamw")
    assert [group["name"] for group in rest] == ["embedding", "readout"]
    muon, adamw = torch.optim.Muon([hidden]), torch.optim.AdamW(rest)
    assert recipe.verify(model, muon, part="muon", attention_scale="in_model").ok
    assert recipe.verify(model, adamw, part="adamw", attention_scale="in_model").ok
    with pytest.raises(InputError, match=r"part 'lion': the recipe has none.*adamw, muon"):
        recipe.param_groups(model, part="lion")


class Inner(nn.Module):
    def __init__(self, names: tuple[str, ...] = ("a", "b")) -> None:
        super().__init__()
        for name in names:
            self.register_parameter(name, nn.Parameter(torch.ones(2, 2)))


def below(path: str, model: nn.Module) -> nn.Module:
    for part in reversed(path.split(".")):
        model = nn.ModuleDict({part: model})
    return model


def roles_in(model: nn.Module, *patterns: RolePattern) -> dict[str, str]:
    return {c.names[0]: c.pattern.role for c in claim(model, patterns) if c.pattern}


@pytest.mark.parametrize("there", ["", "gpt.", "net.gpt.", "other."])
@pytest.mark.parametrize("swept", ["", r"gpt\.", r"net\.gpt\.", r"proxy\.inner\."])
def test_an_attribute_around_the_model_or_around_the_proxies_does_not_matter(
    there: str, swept: str
) -> None:
    patterns = (RolePattern("embedding", f"^{swept}a$"), RolePattern("hidden", f"^{swept}b$"))
    model = below(there.removesuffix("."), Inner()) if there else Inner()
    assert roles_in(model, *patterns) == {f"{there}a": "embedding", f"{there}b": "hidden"}


def test_an_attribute_around_part_of_the_model_is_a_name() -> None:
    patterns = (RolePattern("embedding", r"^gpt\.a$"), RolePattern("hidden", r"^b$"))
    with pytest.raises(InputError, match=r"no pattern claims a .*\^gpt"):
        claim(Inner(), patterns)


def test_names_that_match_in_several_ways_are_refused() -> None:
    patterns = (RolePattern("embedding", r"p\.a|b"), RolePattern("hidden", r"p\.b|a"))
    with pytest.raises(InputError, match="in several ways"):
        claim(below("q", Inner()), patterns)
