"""Initial weights by a recipe: of matrices, gains and biases, on one rank and on several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.sweep.prepare import Sweep
from tests.recipe.made import NAMES, WIDTH, Net, loaded, with_vectors

SAID = {"value": 0.0, "status": "assumed", "source": "here"}
BASE = {"base": {"init_std": 0.0}}


def with_init(vector: dict[str, Any], **stds: float) -> Callable[[dict[str, Any]], None]:
    """Patterns with init stds for every role of `Net`, 0.5 unless given."""

    def edit(document: dict[str, Any]) -> None:
        with_vectors(document)
        names = {"embedding": "wte.weight", "hidden": r"layers.*", "readout": "head.weight"}
        for role, pattern in names.items():
            said = SAID | {"value": stds.get(role, 0.5)}
            document["roles"][role]["parameters"] = [{"pattern": pattern, "init_std": said}]
        written = {"pattern": "norm.*", "init_std": SAID, **vector}
        document["roles"]["vector"]["parameters"] = [written]

    return edit


def test_init_draws_what_the_recipe_says(sweep: Sweep, unfolded: Recipe) -> None:
    recipe, model = loaded(unfolded), sweep.model(WIDTH)
    in_model: Any = {"attention_scale": "in_model"}
    done = recipe.init_(model, torch.Generator().manual_seed(0), **in_model)
    assert done.drawn == tuple(name for name, _ in model.named_parameters())
    assert done.left == ()
    for target in recipe.plan(model):
        parameter = model.get_parameter(target.name)
        assert parameter.requires_grad
        assert parameter.is_leaf
        assert float(parameter.detach().std()) == pytest.approx(target.init_std, rel=0.1)
    again = sweep.model(WIDTH)
    recipe.init_(again, torch.Generator().manual_seed(0), **in_model)
    drawn, before = (m.get_parameter("readout.weight") for m in (again, model))
    assert torch.equal(drawn, before)


def test_init_leaves_what_the_recipe_does_not_say(folded: Recipe) -> None:
    model = Net()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    done = loaded(folded, NAMES).init_(model)
    assert (done.drawn, len(done.left)) == ((), 4)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class OwnNorm(nn.Module):
    """A norm that nobody knows: its weight may count from 0 or from 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((WIDTH,), 3.0))


def test_a_mean_of_0_in_an_old_recipe_is_a_bias_or_an_unknown_gain(folded: Recipe) -> None:
    """Recipes of older versions hold no means; the module tells what is what, or nobody."""
    recipe = loaded(folded, edit=with_init({}, readout=0.0))
    model: Any = Net()
    model.norm = nn.LayerNorm(WIDTH)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    done = recipe.init_(model)
    assert done.left == ()
    assert torch.equal(model.norm.weight, torch.ones(WIDTH))
    assert torch.equal(model.norm.bias, torch.zeros(WIDTH))
    assert not model.head.weight.any()
    assert float(model.wte.weight.detach().std()) == pytest.approx(0.5, rel=0.1)
    model.norm = nn.Sequential(OwnNorm(), nn.Linear(WIDTH, WIDTH))
    model.norm[1].weight.requires_grad_(False)
    model.norm[1].bias.data.fill_(7.0)
    done = recipe.init_(model)
    assert done.left == ("norm.0.weight",)
    assert torch.equal(model.norm[0].weight, torch.full((WIDTH,), 3.0))
    assert torch.equal(model.norm[1].bias, torch.zeros(WIDTH))


def test_a_mean_of_0_in_a_recipe_with_means_is_one(folded: Recipe) -> None:
    model: Any = Net()
    model.norm = OwnNorm()
    done = loaded(folded, edit=with_init(BASE)).init_(model)
    assert done.left == ()
    assert torch.equal(model.norm.weight, torch.zeros(WIDTH)), "as Gemma's, which counts from 1"


def test_gains_of_ones_own_patterns_are_those_of_the_module(folded: Recipe) -> None:
    patterns: Any = {**NAMES, "vector": "norm.*|head.bias"}
    model: Any = Net()
    model.norm, model.head.bias = nn.LayerNorm(WIDTH), nn.Parameter(torch.full((11,), 7.0))
    nn.init.constant_(model.norm.weight, torch.nan)
    done = loaded(folded, patterns, with_vectors).init_(model)
    assert done.drawn == ("norm.weight", "norm.bias")
    assert torch.equal(model.norm.weight, torch.ones(WIDTH))
    assert "head.bias" in done.left, "a Linear's bias need not start at 0"


def test_a_model_from_the_meta_device(folded: Recipe) -> None:
    recipe = loaded(folded, edit=with_init({"init_mean": 1.0}))
    with torch.device("meta"):
        model = Net(gains=True)
    with pytest.raises(InputError, match=r"wte\.weight: is on the meta device, which holds no val"):
        recipe.init_(model)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    assert recipe.init_(model).left == ()
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert torch.equal(model.norm.weight, torch.ones(WIDTH))


def test_a_rank_that_does_not_hold_a_parameter_is_refused(folded: Recipe) -> None:
    recipe = loaded(folded, edit=with_init({"init_mean": 1.0}))
    model: Any = Net(gains=True)
    model.wte.weight.data = torch.empty(0)
    with pytest.raises(InputError, match=r"wte\.weight: is empty on this rank, as under DeepSpeed"):
        recipe.init_(model)
    for mark in ({"tensor_model_parallel": True}, {"allreduce": False}):
        model = Net(gains=True)
        vars(model.head.weight).update(mark)
        before = model.wte.weight.clone()
        with pytest.raises(InputError, match=r"head\.weight: is one rank's part of a tensor- or e"):
            recipe.init_(model)
        assert torch.equal(model.wte.weight, before), "refused, not begun"


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
