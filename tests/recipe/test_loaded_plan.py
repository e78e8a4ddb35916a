"""The values of every parameter, whatever wraps the model, and the parameters left out."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.recipe.loaded import Patterns
from mutransfer_cli.recipe.patterns import LeftOut, RolePattern, claim, known_names
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.sweep.prepare import Sweep
from tests.recipe.made import NAMES, VOCAB, WIDTH, Net, Wrapper, compiled, loaded
from tests.recipe.test_build import exponents, recipe_of

Prepare = Callable[[dict[str, Any]], Sweep]


def test_the_proxy_gets_what_the_recipe_says(sweep: Sweep, unfolded: Recipe) -> None:
    model = sweep.model(WIDTH)
    plan = loaded(unfolded).plan(model)
    assert [target.name for target in plan] == [name for name, _ in model.named_parameters()]
    for target in plan:
        assert target.role is not None
        role = unfolded.roles[target.role]
        assert (target.lr, target.multiplier) == (role.lr.value, role.multiplier.value)
        assert target.weight_decay == role.weight_decay.value
        assert role.eps is not None
        assert role.betas is not None
        assert (target.eps, target.betas) == (role.eps.value, role.betas.value)
        assert target.shape == tuple(model.get_parameter(target.name).shape)
    down = next(target for target in plan if target.name == "blocks.0.down.weight")
    assert down.init_std == pytest.approx((4 * WIDTH) ** -0.5)


def test_independent_decay_is_turned_into_torchs(tiny: dict[str, Any], prepare: Prepare) -> None:
    tiny["parameterization"]["decay_convention"] = "independent"
    tiny["optimizer"] = {"weight_decay": 1e-3}
    sweep = prepare(tiny)
    for target in loaded(recipe_of(exponents(sweep), WIDTH)).plan(sweep.model(WIDTH)):
        assert target.weight_decay is not None
        expected = 0 if target.role == "embedding" else 1e-3
        assert target.lr * target.weight_decay == pytest.approx(expected)


def test_decay_without_convention_is_asked_for(folded: Recipe) -> None:
    def unsaid(document: dict[str, Any]) -> None:
        for role in document["roles"].values():
            role["weight_decay"].pop("convention")

    with pytest.raises(InputError, match="has no convention; give it with `load_recipe"):
        loaded(folded, NAMES, unsaid).plan(Net())


@pytest.mark.parametrize(
    "wrap",
    [
        compiled,
        Wrapper,
        lambda model: compiled(Wrapper(model)),
        lambda model: Wrapper(Wrapper(model)),
    ],
    ids=["compile", "ddp", "compile of ddp", "twice"],
)
def test_what_wrappers_put_into_names_does_not_count(
    folded: Recipe, wrap: Callable[[nn.Module], nn.Module]
) -> None:
    recipe, model = loaded(folded, NAMES), Net()
    wrapped = wrap(model)
    assert not set(dict(wrapped.named_parameters())) & set(dict(model.named_parameters()))
    assert recipe.plan(wrapped) == recipe.plan(model)
    assert set(recipe.multipliers(wrapped)) == set(dict(wrapped.named_parameters()))


def test_nor_in_the_middle_of_a_path(folded: Recipe) -> None:
    model: Any = Net()
    expected = loaded(folded, NAMES).plan(model)
    model.layers[0] = compiled(model.layers[0])
    model.layers[1] = Wrapper(model.layers[1])
    assert loaded(folded, NAMES).plan(model) == expected
    fsdp = "_fsdp_wrapped_module.layers.0._fsdp_wrapped_module._checkpoint_wrapped_module.weight"
    assert known_names(fsdp)[0] == "layers.0.weight"


class Lit(nn.Module):
    """A Lightning module: it holds the model under an attribute, beside a frozen teacher."""

    def __init__(self, model: nn.Module, teacher: nn.Module | None = None) -> None:
        super().__init__()
        self.model, self.teacher = model, teacher


def test_an_attribute_under_which_all_parameters_are_is_left_out(folded: Recipe) -> None:
    recipe, model = loaded(folded, NAMES), Net()
    expected = recipe.plan(model)
    teacher = Net().requires_grad_(False)
    for held in (Lit(model), Lit(Lit(model)), Wrapper(Lit(compiled(model))), Lit(model, teacher)):
        assert recipe.plan(held) == expected
        assert set(recipe.multipliers(held)) == {
            name for name, p in held.named_parameters() if p.requires_grad
        }
    with pytest.raises(InputError, match=r"no pattern claims model\.wte\.weight.*teacher\.weight"):
        recipe.plan(Lit(model, nn.Linear(2, 2)))
    with pytest.raises(InputError, match=r"no pattern claims model\.norm\.weight"):
        recipe.plan(Lit(Net(gains=True)))
    whole: Patterns = {
        "embedding": "model.wte.*",
        "hidden": "model.layers.*",
        "readout": "model.head.*",
    }
    assert loaded(folded, whole).plan(Lit(model))[0].name == "model.wte.weight"


def test_a_module_that_is_called_module_keeps_its_name() -> None:
    patterns = [RolePattern("hidden", r"^net\.module\.weight$", None)]
    model = nn.ModuleDict({"net": Wrapper(nn.Linear(2, 2, bias=False))})
    (claimed,) = claim(Wrapper(compiled(model)), patterns)
    assert claimed.name == "net.module.weight"
    assert known_names("up.module") == ("up.module",)


def test_parameters_and_patterns_that_do_not_meet_are_named(folded: Recipe) -> None:
    with pytest.raises(InputError, match=r"no pattern claims norm\.weight; give each"):
        loaded(folded, NAMES).plan(Net(gains=True))
    with pytest.raises(InputError, match=r"nothing in the model matches layers.* \(hidden\); give"):
        loaded(folded, NAMES).plan(Net(depth=0))
    with pytest.raises(InputError, match=r"no pattern claims wte\.weight.* and nothing in the "):
        loaded(folded).plan(Net())
    both: Patterns = {**NAMES, "readout": ["head.weight", r"layers\.1\.weight"]}
    with pytest.raises(InputError, match=r"layers\.1\.weight is claimed by .*\(hidden\) and "):
        loaded(folded, both).plan(Net())
    many: Patterns = {"hidden": "head.weight"}
    with pytest.raises(InputError, match=r"layers\.3\.weight and 5 more; give"):
        loaded(folded, many).plan(Net(depth=9))


def test_a_pattern_is_for_the_whole_name(folded: Recipe) -> None:
    with pytest.raises(InputError, match=r"no pattern claims wte\.weight and nothing"):
        loaded(folded, {**NAMES, "embedding": "wte"}).plan(Net())


def test_a_recipe_without_names_asks_for_them(folded: Recipe) -> None:
    def nameless(document: dict[str, Any]) -> None:
        for role in document["roles"].values():
            role["parameters"] = []

    with pytest.raises(InputError, match="names no parameters; give each role's names"):
        loaded(folded, edit=nameless).plan(Net())
    assert len(loaded(folded, NAMES, nameless).plan(Net())) == 4


def test_frozen_parameters_and_buffers_are_left_out_and_listed(folded: Recipe) -> None:
    recipe, model = loaded(folded, NAMES), Net()
    model.wte.weight.requires_grad_(False)
    wrapped = compiled(model)
    assert [target.role for target in recipe.plan(model)] == ["hidden", "hidden", "readout"]
    assert recipe.left_out(wrapped) == LeftOut(("wte.weight",), ("positions",))


class Tied(Net):
    def __init__(self) -> None:
        super().__init__()
        self.head.weight = self.wte.weight


def test_tied_weights_are_one_parameter_under_either_name(folded: Recipe) -> None:
    for role, name in (("embedding", "wte.weight"), ("readout", "head.weight")):
        patterns: Any = {"hidden": NAMES["hidden"], role: name}
        targets = loaded(folded, patterns).plan(Tied())
        assert [(t.name, t.role) for t in targets if t.role != "hidden"] == [(name, role)]
        assert targets[0].shape == (VOCAB, WIDTH)
    twice: Any = {"hidden": NAMES["hidden"], "readout": ["wte.weight", "head.weight"]}
    assert len(loaded(folded, twice).plan(Tied())) == 3


def test_tied_weights_of_two_roles_are_refused(folded: Recipe) -> None:
    with pytest.raises(
        InputError, match=r"one tied parameter is claimed as wte\.weight \(embedding.*and as head"
    ):
        loaded(folded, NAMES).plan(Tied())


def global_scope(document: dict[str, Any]) -> None:
    document |= {"scope": "global", "roles": {}}
    document["base_weight_decay"]["convention"] = "independent"


def test_a_global_recipe_is_for_all(folded: Recipe) -> None:
    plan = loaded(folded, edit=global_scope).plan(Net(gains=True))
    assert len(plan) == 5
    for target in plan:
        assert (target.role, target.eps, target.betas, target.init_std) == (None,) * 4
        assert target.lr == folded.base_lr.value
        assert math.isclose(target.lr * (target.weight_decay or 0), 0.1)
    with pytest.raises(
        InputError, match=r"for all parameters \(scope: global\); leave patterns out"
    ):
        loaded(folded, NAMES, global_scope)
