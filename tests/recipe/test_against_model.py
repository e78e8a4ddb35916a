"""A model against its recipe: each seeded fault is found and named; the correct model passes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from mutransfer_cli.check.static import static_gate
from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.recipe.against_model import ModelCheck, check_model
from mutransfer_cli.recipe.build import build_recipe
from mutransfer_cli.recipe.read_model import read_target
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.spec.yaml_io import dump
from mutransfer_cli.strict import validated
from tests.recipe.made import WIDTH

OWN = "tests.recipe.own_nets:"
Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def recipe(
    fitted: Exponents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Recipe]:
    """Make the recipe for a model, and write it to a file for its optimizer."""

    def made(name: str = "net", folded: bool = True, edit: Edit = lambda _: None) -> Recipe:
        target = read_target(OWN + name, WIDTH, {}, fitted)
        built = build_recipe(fitted, Target(WIDTH, {}, folded=folded, model=target))
        document = yaml.safe_load(dump(built))
        edit(document)
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(document))
        monkeypatch.setenv("RECIPE", str(path))
        return validated(Recipe, document, "recipe.yaml")

    return made


def check(recipe: Recipe, name: str, optimizer: str | None = None) -> ModelCheck:
    return check_model(recipe, "recipe.yaml", OWN + name, optimizer and OWN + optimizer)


def test_the_right_model_with_the_right_optimizer_has_no_findings(
    recipe: Callable[..., Recipe],
) -> None:
    found = check(recipe(), "net", "optimizer")
    assert not found.findings
    (unseen,) = found.unchecked
    assert re.fullmatch(
        r"whether recipe.init_ is called: the model's own init is another \(std of qkv.weight at "
        r"0.07\d*, the recipe's 0.125, head.weight at 0.07\d*, the recipe's 0.0625\)",
        unseen,
    )
    gate = static_gate(recipe(), found.findings, found.unchecked)
    assert gate.verdict == "pass"


@pytest.mark.parametrize("name", ["multiplied", "multiplied_before"])
def test_a_model_that_multiplies_goes_with_a_recipe_that_is_not_folded(
    recipe: Callable[..., Recipe], name: str
) -> None:
    found = check(recipe(folded=False), name, "optimizer")
    assert not found.findings
    assert "whether the forward pass applies the multipliers of embedding" in found.unchecked


def test_own_fan_ins_and_constant_inits_are_right_too(recipe: Callable[..., Recipe]) -> None:
    assert not check(recipe("narrow"), "narrow", "optimizer").findings
    found = check(recipe("constant_init"), "constant_init", "optimizer")
    assert not found.findings
    assert "wte.weight at 0.0199, the recipe's 1" in found.unchecked[0]


@pytest.mark.parametrize(
    "name", ["token_mlp", "rounded_mlp", "with_loss", "conv_net", "padded_vocab"]
)
def test_models_of_all_kinds_are_right_by_the_recipe_that_was_made_for_them(
    fitted: Exponents, name: str
) -> None:
    model = f"tests.proxies.own_models:{name}"
    target = Target(WIDTH, {}, folded=True, model=read_target(model, WIDTH, {}, fitted))
    found = check_model(build_recipe(fitted, target), "recipe.yaml", model)
    assert not found.findings
    unseen = "whether the forward pass scales the output of head.weight: its logits"
    assert any(said.startswith(unseen) for said in found.unchecked) == (
        name in ("with_loss", "conv_net")
    )


def test_a_raw_stack_of_experts_starts_by_its_own_fan_in(fitted: Exponents, tmp_path: Path) -> None:
    path = tmp_path / "model.yaml"
    path.write_text(
        "factory: tests.proxies.own_models:tied_moe\nroles: {token.weight: embedding}\n"
    )
    plan = {p.name: p for p in read_target(str(path), WIDTH, {}, fitted).base_plan}
    up, down = plan["experts.0.up"], plan["experts.0.down"]
    assert (up.role, up.fan_in_axis, down.fan_in_axis) == ("hidden", 1, 1)
    assert up.init_std / down.init_std == pytest.approx(2**0.5, rel=0.1)


OF_MODEL = {
    "other_attention": r"^attention multiplies q.k by 0.353553 at head size 8, 1/sqrt\(d_head\), "
    r"the recipe names 1/d_head, 0.125; ",
    "one_constant_init": r"^layers.1.weight: the model's own init std scales as width\^-?0.0\d, "
    r"the recipe's as width\^-0.50 \(layers.1.weight is 0.0\d* and the recipe's 0.125\); draw ",
    "mup_init": r"^qkv.weight, layers.0.weight, layers.1.weight: the model's own init std scales "
    r"as width\^-(0.9|1.0)\d, the recipe's as width\^-0.50 ",
    "one_more": r"^recipe.yaml: no pattern claims head.bias; give each role's names",
    "one_less": r"^recipe.yaml: nothing in the model matches .*layers.*\(hidden\); give each",
    "tied": r"^recipe.yaml: one tied parameter is claimed as wte.weight \(embedding",
    "multiplied": r"^head.weight: the model's own code multiplies the output by width\^-0.50 and "
    r"the recipe by width\^0.00 .*; muP is applied twice",
}


@pytest.mark.parametrize("name", OF_MODEL)
def test_every_fault_of_a_model_is_named(recipe: Callable[..., Recipe], name: str) -> None:
    findings = check(recipe(), name).findings
    assert any(re.search(OF_MODEL[name], finding) for finding in findings), findings


def test_a_missing_readout_multiplier_is_named(recipe: Callable[..., Recipe]) -> None:
    (finding,) = check(recipe(folded=False), "net").findings
    assert re.search(r"by width\^0.00 and the recipe by width\^-0.50 .*is missing: ", finding)


def test_an_init_that_scales_as_the_recipes_from_another_value_is_named(
    recipe: Callable[..., Recipe],
) -> None:
    (finding,) = check(recipe("twice_as_wide"), "twice_as_wide").findings
    assert re.match(
        r"std of wte.weight is (1.9|2)\d* and the recipe's 1, qkv.weight is 0.2", finding
    )
    assert not check(recipe("as_the_recipe"), "as_the_recipe").findings


OF_OPTIMIZER = {
    "one_left_out": "^missing: wte.weight: not in the optimizer, so that nothing trains it",
    "hidden_unscaled": r"^(one_rate|lr): .*lr of hidden \(",
    "embedding_scaled": r"^(one_rate|lr): .*lr of embedding \(wte.weight\)",
    "decay_independent": "^decay_convention: weight_decay of hidden .*the independent convention",
    "twice": "^scaled_twice: rates are scaled with width twice",
    "own_class": r"^optimizer: tests.recipe.own_nets.Own updates .*, and is not known to be adamw",
}


@pytest.mark.parametrize("name", OF_OPTIMIZER)
def test_every_fault_of_an_optimizer_is_named(recipe: Callable[..., Recipe], name: str) -> None:
    (finding,) = check(recipe(), "net", name).findings
    assert re.search(OF_OPTIMIZER[name], finding), finding


def test_an_optimizer_under_its_name_is_what_it_is_called(recipe: Callable[..., Recipe]) -> None:
    assert not check(recipe(), "net", "own_class_named").findings


def rate_of_the_width(document: dict[str, Any]) -> None:
    down = document["roles"]["hidden"]["parameters"]
    for parameters in down:
        parameters.pop("own", None)


def without_names(document: dict[str, Any]) -> None:
    for role in document["roles"].values():
        role["parameters"] = []


def wrong_role(document: dict[str, Any]) -> None:
    roles = document["roles"]
    roles["hidden"]["parameters"].extend(roles["embedding"]["parameters"])
    roles["embedding"]["parameters"] = []


def test_values_are_held_against_the_models_own_sizes(recipe: Callable[..., Recipe]) -> None:
    findings = check(recipe("narrow", edit=rate_of_the_width), "narrow").findings
    assert any(re.match(r"lr of layers.1.1.weight \(hidden\)", f) for f in findings), findings


def test_a_claim_that_the_shapes_contradict_is_named(recipe: Callable[..., Recipe]) -> None:
    findings = check(recipe(edit=wrong_role), "net").findings
    assert any(
        f.startswith(
            "wte.weight: claimed as hidden, and by the axes that grow with width it is embedding; "
        )
        for f in findings
    ), findings


def test_what_cannot_be_seen_is_said(recipe: Callable[..., Recipe]) -> None:
    by_hand = check(recipe("attention_by_hand"), "attention_by_hand")
    assert not by_hand.findings
    assert any("no call of scaled_dot_product_attention" in said for said in by_hand.unchecked)
    capped = check(recipe("capped"), "capped")
    assert any("the forward pass scales the output of head.weight" in u for u in capped.unchecked)
    old = check(recipe(edit=lambda document: document.pop("rule")), "net")
    assert not old.findings
    assert "the recipe has no `rule`" in old.unchecked[0]


@pytest.mark.parametrize(
    ("name", "optimizer", "message"),
    [
        ("no_such", None, "has no function no_such"),
        ("net", "no_such", "has no function no_such"),
        (
            "net",
            "fails",
            "raised RuntimeError for the model, which is on the meta device: no GPU",
        ),
        ("net", "nothing", "returned NoneType, expected a torch optimizer"),
    ],
)
def test_what_cannot_be_built_is_refused(
    recipe: Callable[..., Recipe], name: str, optimizer: str | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check(recipe(), name, optimizer)


def test_a_recipe_without_roles_or_names_is_refused(recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(InputError, match=r"names no parameters, .* make it with `transfer` for"):
        check(recipe(edit=without_names), "net")
    with pytest.raises(InputError, match="so that there is no rule to compare a model with"):
        check(recipe(edit=lambda d: d.update(scope="global", base_width=None)), "net")


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., str]:
    pytest.importorskip("transformers")
    from tests.proxies.test_hf import CONFIGS

    def write(**changes: Any) -> str:
        path = tmp_path / "config.json"
        path.write_text(json.dumps({"model_type": "llama"} | CONFIGS["llama"] | changes))
        return str(path)

    return write


def test_a_config_is_held_against_its_recipe(fitted: Exponents, config: Callable[..., str]) -> None:
    name = config()
    target = Target(WIDTH, {}, True, model=read_target(name, None, {}, fitted))
    right = build_recipe(fitted, target)
    found = check_model(right, "recipe.yaml", name)
    assert not found.findings
    assert "lm_head.weight at 0.0201, the recipe's 0.0625" in found.unchecked[0]
    of_gemma = right.model_dump(mode="json", by_alias=True)  # proxies with a factor of their own
    of_gemma["roles"]["embedding"]["parameters"][0]["base"]["factor"] = 4.0
    found_of_gemma = check_model(
        validated(Recipe, of_gemma, "recipe.yaml"), "recipe.yaml", name
    ).findings
    assert found_of_gemma
    assert not any(finding.startswith("attention") for finding in found_of_gemma)
    unfolded = build_recipe(fitted, replace(target, folded=False))
    findings = check_model(unfolded, "recipe.yaml", name).findings
    expected = "attention multiplies q.k by 0.353553 at head size 8, 1/sqrt(d_head), the recipe"
    assert any(finding.startswith(expected) for finding in findings)
    (tied,) = check_model(right, "recipe.yaml", config(tie_word_embeddings=True)).findings
    assert "ties the embedding to the readout" in tied
    (other,) = check_model(right, "recipe.yaml", config(hidden_size=128)).findings
    assert "has hidden_size 128, and the recipe is for width 64" in other
