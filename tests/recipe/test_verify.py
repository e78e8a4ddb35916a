"""Each way in which a trainer departs from a recipe is found and named, and nothing else is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from mutransfer_cli.errors import InputError
from mutransfer_cli.recipe.loaded import LoadedRecipe
from mutransfer_cli.recipe.types import Recipe
from tests.recipe.made import NAMES, Net, Wrapper, compiled, loaded, with_vectors

Fixed = Callable[[Optimizer], Any]
WARMUP = [0.0, 0.5, 1.0]
IN_MODEL = {"attention_scale": "in_model"}


def adamw(recipe: LoadedRecipe, model: Net) -> Optimizer:
    return torch.optim.AdamW(recipe.param_groups(model))


def found(
    recipe: LoadedRecipe, model: Net, optimizer: Optimizer, *args: Any, **stated: Any
) -> dict[str, str]:
    """Return the sentences of the differences by name."""
    result = recipe.verify(model, optimizer, *args, **stated)
    assert result.ok == (not result.differences)
    return {difference.name: difference.sentence for difference in result.differences}


class Hand:
    """A hand-written scheduler that sets the rate of every group."""

    def __init__(self, optimizer: Optimizer, rate: Callable[[float, int], float]) -> None:
        self.optimizer, self.rate, self.steps = optimizer, rate, -1
        self.peaks = [group["lr"] for group in optimizer.param_groups]
        self.step()

    def step(self) -> None:
        self.steps += 1
        for group, peak in zip(self.optimizer.param_groups, self.peaks, strict=True):
            group["lr"] = self.rate(peak, self.steps)


SCHEDULES: dict[str, Fixed] = {
    "none": lambda optimizer: None,
    "warm-up": lambda optimizer: LambdaLR(optimizer, lambda step: WARMUP[step]),
    "cosine": lambda optimizer: CosineAnnealingLR(optimizer, 10),
    "sequence": lambda optimizer: SequentialLR(
        optimizer, [LinearLR(optimizer, 0.1, total_iters=2), CosineAnnealingLR(optimizer, 9)], [2]
    ),
    "one cycle": lambda optimizer: OneCycleLR(
        optimizer, [g["lr"] for g in optimizer.param_groups], 10, cycle_momentum=False
    ),
    "by hand": lambda optimizer: Hand(optimizer, lambda peak, step: peak * WARMUP[step]),
    "by hand from the peak": lambda optimizer: Hand(optimizer, lambda peak, step: peak / 2**step),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_recipes_own_groups_are_right_under_every_schedule(
    recipe: LoadedRecipe, model: Net, name: str
) -> None:
    optimizer = adamw(recipe, model)
    scheduler = SCHEDULES[name](optimizer)
    result = recipe.verify(model, optimizer, scheduler)
    assert result.ok, result
    assert recipe.verify(model, optimizer, scheduler, steps=2).ok
    result.raise_for_differences()
    assert str(result) == "the optimizer is as the recipe says"


def test_so_they_are_in_wrapped_models_and_tensor_rates(recipe: LoadedRecipe, model: Net) -> None:
    optimizer = adamw(recipe, model)
    assert recipe.verify(compiled(model), optimizer).ok
    assert recipe.verify(Wrapper(compiled(model)), optimizer).ok
    wrapped = torch.optim.AdamW(recipe.param_groups(compiled(model)))
    for group in wrapped.param_groups:
        group["lr"] = torch.tensor(group["lr"])
    assert recipe.verify(model, wrapped, CosineAnnealingLR(wrapped, 10)).ok
    model.wte.weight.requires_grad_(False)
    assert recipe.verify(model, optimizer).ok, "a frozen parameter in the optimizer is not trained"


def state(optimizer: Optimizer, scheduler: Any) -> Any:
    """The whole state of optimizer and scheduler, with weights by identity."""
    groups = [
        {k: [id(p) for p in v] if k == "params" else copy.deepcopy(v) for k, v in g.items()}
        for g in optimizer.param_groups
    ]
    held = {k: v for k, v in vars(scheduler).items() if k != "optimizer"}
    return groups, {k: id(v) if k == "_schedulers" else copy.deepcopy(v) for k, v in held.items()}


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "none"])
def test_optimizer_and_scheduler_stay_as_they_are(
    recipe: LoadedRecipe, model: Net, name: str
) -> None:
    optimizer = adamw(recipe, model)
    scheduler = SCHEDULES[name](optimizer)
    model(torch.arange(4)).sum().backward()
    optimizer.step()
    before, moments = state(optimizer, scheduler), copy.deepcopy(optimizer.state_dict())
    weights = copy.deepcopy(model.state_dict())
    recipe.verify(model, optimizer, scheduler, steps=2)
    assert str(state(optimizer, scheduler)) == str(before)
    assert scheduler.optimizer is optimizer
    assert str(optimizer.state_dict()) == str(moments)
    assert str(model.state_dict()) == str(weights)
    assert all(parameter in optimizer.state for parameter in model.parameters())


def test_so_does_an_optimizer_that_a_function_holds(recipe: LoadedRecipe, model: Net) -> None:
    """A schedule function may hold the optimizer itself, and rates may be tensors."""
    optimizer = adamw(recipe, model)
    filled, replaced, _ = optimizer.param_groups
    for group in (filled, replaced):
        group["lr"] = torch.tensor(group["lr"])

    def flat() -> None:
        for group in optimizer.param_groups:
            group["added"] = True
            if group is filled:
                group["lr"].fill_(1e-5)
            else:
                group["lr"] = 1e-5

    class Outside:
        def __init__(self) -> None:
            self.set = flat

        def step(self) -> None:
            self.set()

    before = [dict(group) for group in optimizer.param_groups]
    value = float(filled["lr"])
    assert "one_rate" in found(recipe, model, optimizer, Outside())
    assert float(filled["lr"]) == value
    for group, was in zip(optimizer.param_groups, before, strict=True):
        assert set(group) == set(was)
        assert group["lr"] is was["lr"]


def test_weights_are_not_copied_with_a_scheduler(recipe: LoadedRecipe, model: Net) -> None:
    optimizer = adamw(recipe, model)
    looked = []

    class Holding(Hand):
        model: Net

        def step(self) -> None:
            super().step()
            if self.steps:
                looked.append(self.model.wte.weight is model.wte.weight)

    holding = Holding(optimizer, lambda peak, step: peak)
    holding.model = model
    assert recipe.verify(model, optimizer, holding).ok
    assert looked == [True]


def test_parameters_missing_twice_or_of_another_model(recipe: LoadedRecipe, model: Net) -> None:
    optimizer = adamw(recipe, model)
    embedding, _, hidden = optimizer.param_groups
    embedding["params"].clear()
    hidden["params"].append(hidden["params"][0])
    differences = found(recipe, model, optimizer)
    assert set(differences) == {"missing", "twice"}
    assert differences["missing"].startswith("wte.weight: not in the optimizer")
    assert differences["twice"].startswith("layers.0.weight: more than once")
    differences = found(recipe, Net(), adamw(recipe, model), None)
    assert set(differences) == {"missing", "foreign"}
    assert differences["foreign"].startswith("4 tensors in the optimizer are not parameters")


def test_weight_decay_of_the_other_convention(recipe: LoadedRecipe, model: Net) -> None:
    optimizer = adamw(recipe, model)
    for group in optimizer.param_groups:
        group["weight_decay"] *= group["lr"]
    differences = recipe.verify(model, optimizer).differences
    assert [d.name for d in differences] == ["decay_convention"] * 2
    assert "is the number of the independent convention" in differences[0].sentence
    for group in (optimizer := adamw(recipe, model)).param_groups:
        group["weight_decay"] /= group["lr"]
    sentence = found(recipe, model, optimizer)["decay_convention"]
    assert "it was divided by lr though it is in torch's convention already" in sentence


def test_weight_decay_that_is_added_to_the_gradient(recipe: LoadedRecipe, model: Net) -> None:
    groups = recipe.param_groups(model)
    for difference in (differences := recipe.verify(model, torch.optim.Adam(groups)).differences):
        assert difference.name == "decay_convention"
        assert "is added to the gradient by this optimizer" in difference.sentence
    assert len(differences) == 2, "the embedding has none"
    sgd = torch.optim.SGD([{k: g[k] for k in ("params", "lr", "weight_decay")} for g in groups])
    assert set(found(recipe, model, sgd)) == {"optimizer"}


def test_other_settings(recipe: LoadedRecipe, model: Net) -> None:
    optimizer = adamw(recipe, model)
    embedding, readout, hidden = optimizer.param_groups
    embedding["weight_decay"], hidden["eps"], readout["betas"] = 0.1, 1e-6, (0.9, 0.96)
    differences = found(recipe, model, optimizer)
    assert set(differences) == {"weight_decay", "eps", "betas"}
    assert differences["weight_decay"].endswith("is 0.1, the recipe says 0")
    assert "eps of hidden (2 parameters, layers.0.weight first) is 1e-06" in differences["eps"]
    assert differences["betas"].endswith("are [0.9, 0.96], the recipe says [0.9, 0.95]")


def test_settings_that_a_scheduler_changes(recipe: LoadedRecipe, model: Net) -> None:
    optimizer = adamw(recipe, model)

    class Cycled(Hand):
        def step(self) -> None:
            super().step()
            for group in self.optimizer.param_groups:
                group["betas"] = (0.9 - 0.1 * self.steps, 0.95)

    cycled = Cycled(optimizer, lambda peak, step: peak)
    result = recipe.verify(model, optimizer, cycled, steps=5)
    assert [d.name for d in result.differences] == ["betas"] * 3, "each once"
    assert result.differences[0].sentence.startswith("after 1 scheduler step betas of embedding")


def test_all_is_raised_in_one_error(recipe: LoadedRecipe, model: Net) -> None:
    optimizer = adamw(recipe, model)
    for group in optimizer.param_groups:
        group["lr"], group["eps"] = 1e-3, 1e-3
    with pytest.raises(InputError, match=r"not as the recipe says:\n  one_rate: .*\n  eps: eps of"):
        recipe.verify(model, optimizer).raise_for_differences()


def test_a_scheduler_that_cannot_be_tried_is_refused(recipe: LoadedRecipe, model: Net) -> None:
    optimizer = adamw(recipe, model)
    before = [dict(group) for group in optimizer.param_groups]
    with pytest.raises(InputError, match="ReduceLROnPlateau cannot be stepped on a copy"):
        recipe.verify(model, optimizer, ReduceLROnPlateau(optimizer))  # type: ignore[arg-type]
    assert [dict(group) for group in optimizer.param_groups] == before


def test_a_model_that_is_not_the_recipes_is_refused(folded: Recipe, recipe: LoadedRecipe) -> None:
    gains = Net(gains=True)
    vectors = loaded(folded, {**NAMES, "vector": "norm.weight"}, with_vectors)
    optimizer = adamw(vectors, gains)
    assert vectors.verify(gains, optimizer).ok
    with pytest.raises(InputError, match=r"no pattern claims norm\.weight"):
        recipe.verify(gains, optimizer)


def test_a_schedule_that_torch_steps_by_group(recipe: LoadedRecipe, model: Net) -> None:
    optimizer = adamw(recipe, model)
    by_group: LRScheduler = LambdaLR(
        optimizer, [lambda step: 1.0, lambda step: 0.5**step, lambda step: 1.0]
    )
    sentence = found(recipe, model, optimizer, by_group)["schedule"]
    assert "readout (head.weight) is at 0.5 of its peak lr and embedding (wte.weight)" in sentence
    optimizer = adamw(recipe, model)
    assert recipe.verify(model, optimizer, ConstantLR(optimizer, 0.5)).ok
