"""Groups for torch optimizers, and initial weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mutransfer_cli.errors import InputError
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.sweep.prepare import Sweep
from tests.recipe.made import NAMES, WIDTH, Net, loaded, with_vectors
from tests.recipe.test_build import exponents, recipe_of
from tests.recipe.test_loaded_plan import global_scope

Prepare = Callable[[dict[str, Any]], Sweep]


def test_parameters_with_equal_values_share_a_group(folded: Recipe) -> None:
    model = Net()
    groups = loaded(folded, NAMES).param_groups(model)
    # folded, hidden and readout have the same rate, but not the same eps
    assert [group["name"] for group in groups] == ["embedding", "hidden", "readout"]
    assert [group["param_names"] for group in groups] == [
        ["wte.weight"],
        ["layers.0.weight", "layers.1.weight"],
        ["head.weight"],
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

    merged = loaded(folded, NAMES, one_eps).param_groups(model)
    assert [group["name"] for group in merged] == ["embedding", "hidden, readout"]
    assert len(merged[1]["params"]) == 3


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
    assert recipe.verify(model, muon, part="muon").ok
    assert recipe.verify(model, adamw, part="adamw").ok
    with pytest.raises(InputError, match=r"part 'lion': the recipe has none.*adamw, muon"):
        recipe.param_groups(model, part="lion")


def test_init_draws_what_the_recipe_says(sweep: Sweep, unfolded: Recipe) -> None:
    recipe, model = loaded(unfolded), sweep.model(WIDTH)
    done = recipe.init_(model, torch.Generator().manual_seed(0))
    assert done.drawn == tuple(name for name, _ in model.named_parameters())
    assert done.left == ()
    for target in recipe.plan(model):
        parameter = model.get_parameter(target.name)
        assert parameter.requires_grad
        assert parameter.is_leaf
        assert float(parameter.detach().std()) == pytest.approx(target.init_std, rel=0.1)
    again = sweep.model(WIDTH)
    recipe.init_(again, torch.Generator().manual_seed(0))
    drawn, before = (m.get_parameter("readout.weight") for m in (again, model))
    assert torch.equal(drawn, before)


def test_init_leaves_what_the_recipe_does_not_say(folded: Recipe) -> None:
    def stds(document: dict[str, Any]) -> None:
        with_vectors(document)
        said = {"value": 0.0, "status": "assumed", "source": "here"}
        for role, pattern in (("readout", "head.weight"), ("vector", "norm.weight")):
            document["roles"][role]["parameters"] = [{"pattern": pattern, "init_std": said}]
        said = said | {"value": 0.5}
        for role, pattern in (("embedding", "wte.weight"), ("hidden", r"layers\.\d+\.weight")):
            document["roles"][role]["parameters"] = [{"pattern": pattern, "init_std": said}]

    model = Net(gains=True)
    done = loaded(folded, edit=stds).init_(model)
    assert done.left == ("norm.weight",)
    assert torch.equal(model.norm.weight, torch.ones(WIDTH)), "a gain is no weight of mean 0"
    assert not model.head.weight.any()
    assert float(model.wte.weight.detach().std()) == pytest.approx(0.5, rel=0.1)

    model = Net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    done = loaded(folded, NAMES).init_(model)
    assert (done.drawn, len(done.left)) == ((), 4)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_init_draws_around_the_written_mean(folded: Recipe) -> None:
    def gains(std: float) -> Callable[[dict[str, Any]], None]:
        def edit(document: dict[str, Any]) -> None:
            with_vectors(document)
            init = {"value": std, "status": "assumed", "source": "here"}
            written = {"pattern": "norm.weight", "init_std": init, "init_mean": 1.0}
            document["roles"]["vector"]["parameters"] = [written]
            names = ("embedding", "wte.weight"), ("hidden", r"layers.*"), ("readout", "head.weight")
            for role, pattern in names:
                written = {"pattern": pattern, "init_std": init | {"value": 0.5}}
                document["roles"][role]["parameters"] = [written]

        return edit

    model = Net(gains=True)
    with torch.no_grad():
        model.norm.weight.fill_(torch.nan)
    recipe = loaded(folded, edit=gains(0.02))
    recipe.init_(model, torch.Generator().manual_seed(0))
    gain = model.norm.weight.detach()
    assert float(gain.mean()) == pytest.approx(1.0, abs=0.02)
    assert float(gain.std()) == pytest.approx(0.02, rel=0.3)
    (planned,) = (p for p in recipe.plan(model) if p.role == "vector")
    assert (planned.init_mean, planned.init_std) == (1.0, 0.02)

    done = loaded(folded, edit=gains(0.0)).init_(model)
    assert "norm.weight" in done.drawn
    assert torch.equal(model.norm.weight, torch.ones(WIDTH)), "a written mean is set"
