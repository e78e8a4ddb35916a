from __future__ import annotations

import ast
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from mutransfer_cli.errors import InputError, NotExpressible
from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.recipe.formats.capability import losses
from mutransfer_cli.recipe.formats.dispatch import FORMATS, PLAIN, emit
from mutransfer_cli.recipe.formats.sheet import STOCK_ROLES, Sheet, comment, number, sheet_of
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.recipe.types import ParameterPattern
from mutransfer_cli.spec.yaml_io import dump
from tests.conftest import Result
from tests.recipe.formats.conftest import WIDTH, Document, executed, written

TRAINERS = [to for to in FORMATS if to != "pytorch"]
HOSTILE = "a\n'''\"\"\"\nimport os\n# \r\x0c\u2028\x85: [}{ $(touch x) `y` '"


def without_protocol(found: Exponents, **changes: Any) -> Exponents:
    nothing = {"protocol": None, "base_plan": (), "decay_convention": None}
    return found.model_copy(update=nothing | changes)


def test_what_cannot_be_held_is_refused_or_named(document: Document) -> None:
    to, found = "nemo-automodel", document()
    with pytest.raises(NotExpressible, match=rf"--to {to} cannot hold: .*attention scale 1/d_head"):
        emit(found, Target(WIDTH, {}), to)
    emitted = emit(found, Target(WIDTH, {}), to, allow_lossy=True)
    assert any(item.startswith("attention scale") for item in emitted.dropped)
    assert "# DROPPED, set it by hand: attention scale" in emitted.text


@pytest.mark.parametrize("to", sorted({*FORMATS} - {"nemo-automodel"}))
def test_what_is_held_is_no_loss(document: Document, to: str) -> None:
    assert not emit(document(), Target(WIDTH, {}), to).dropped


@pytest.mark.parametrize("to", TRAINERS)
def test_what_the_target_does_anyway_is_no_loss(document: Document, to: str) -> None:
    found = document(model={"attention_scale": "1/sqrt(d_head)"})
    assert not emit(found, Target(16, {}), to).dropped, "multipliers and init factors of 1"


def test_eps_of_its_own_is_a_loss_only_where_the_rule_wants_it(document: Document) -> None:
    said = emit(document(), Target(WIDTH, {}), "nemo-automodel", allow_lossy=True)
    assert not any(item.startswith("eps") for item in said.dropped)
    assert any("eps for all parameters is off" in warning for warning in said.recipe.warnings)
    by_role = document(parameterization={"epsilon": "per_layer"})
    lost = emit(by_role, Target(WIDTH, {}), "nemo-automodel", allow_lossy=True).dropped
    assert any(item.startswith("eps by role") for item in lost)


def test_a_poorer_target_loses_more(document: Document) -> None:
    recipe = emit(document(optimizer={"weight_decay": 0.1}), Target(WIDTH, {}), "yaml").recipe
    sheet = sheet_of(recipe)
    nothing = dict.fromkeys(
        ("role_lr", "role_weight_decay", "betas", "init_std", "schedule_keeps_ratios"), False
    )
    poor = replace(FORMATS["nemo-automodel"].capability, **nothing)  # type: ignore[arg-type]
    assert [item.split(" (")[0] for item in losses(poor, sheet, sheet)] == [
        "learning rates by role",
        "weight decay by role",
        "betas",
        "init std by role",
        "multipliers",
        "ratios between learning rates while the schedule runs",
        "attention scale 1/d_head",
    ]


@pytest.mark.parametrize("to", TRAINERS)
@pytest.mark.parametrize("name", ["muon", "lion", "sgd", "adafactor", "adam_atan2"])
def test_an_optimizer_that_is_not_there_is_refused(document: Document, to: str, name: str) -> None:
    with pytest.raises(NotExpressible, match=f"--to {to}: optimizer {name} cannot be written"):
        emit(document(optimizer={"name": name}), Target(WIDTH, {}), to, allow_lossy=True)


def test_decay_that_torch_lacks_is_refused(document: Document) -> None:
    found = document(optimizer={"name": "sgd", "weight_decay": 0.1})
    with pytest.raises(NotExpressible, match="passes through the momentum"):
        emit(found, Target(WIDTH, {}), "pytorch")


@pytest.mark.parametrize("to", FORMATS)
def test_one_global_rate_is_held_everywhere(
    document: Document, to: str, paper: Callable[..., Any]
) -> None:
    emitted = emit(without_protocol(document(), weight_decay=0.1), Target(WIDTH, {}), to)
    assert not emitted.dropped
    assert "0.015625" in emitted.text
    assert "one learning rate for all parameters" in emitted.text
    assert "the weight decay's convention is not known" in emitted.text.replace("\n#  ", "")
    if to == "megatron":
        assert shlex.split(emitted.text, comments=True)[:4] == [
            *("--optimizer", "adam", "--lr", "0.015625")
        ]
    elif to == "nemo-automodel":
        assert yaml.safe_load(emitted.text)["optimizer"]["weight_decay"] == 0.1
    else:
        ast.parse(emitted.text)


def test_plain_formats_are_the_recipe(document: Document) -> None:
    found, asked = document(), Target(WIDTH, {})
    recipe = emit(found, asked, "yaml").recipe
    assert emit(found, asked, "yaml").text == dump(recipe)
    assert emit(found, asked, "json").text == dump(recipe, as_json=True)


def test_an_unknown_format_is_named() -> None:
    nothing: Any = None
    with pytest.raises(InputError, match="--to torchtitn: unknown; did you mean 'torchtitan'"):
        emit(nothing, Target(WIDTH, {}), "torchtitn")


@pytest.mark.parametrize("to", TRAINERS)
def test_folding_is_said_with_where_it_is_not_exact(document: Document, to: str) -> None:
    emitted = emit(document(optimizer={"weight_decay": 0.1}), Target(WIDTH, {}), to, True)
    said = emitted.text.replace("\n#  ", "")
    assert "# folded: multipliers are moved into init" in said
    assert "warning: folded: the global gradient norm counts" in said
    assert any(warning.startswith("folded: ") for warning in emitted.recipe.warnings)


def test_megatrons_own_mup_is_for_its_own_rule_alone(document: Document) -> None:
    def native(**changes: Any) -> bool:
        return "--use-mup\n" in written(document(**changes), "megatron")

    assert native()
    assert "eps differs" in written(document(), "megatron")
    assert "--use-mup\n" not in written(document(), "megatron", folded=True)
    assert not native(optimizer={"lr_mult": {"hidden": 2}})
    assert not native(optimizer={"lr_mult": {}, "weight_decay": 0.1})
    assert not native(optimizer={"weight_decay": 0}, parameterization={"alignment": "none"})
    assert not native(parameterization={"alignment": "full", "name": "standard"})


@pytest.mark.parametrize("to", FORMATS)
def test_text_of_a_recipe_cannot_become_code(document: Document, to: str) -> None:
    found = document(optimizer={"weight_decay": 0.1})
    recipe = emit(found, Target(WIDTH, {}), "yaml").recipe
    hidden = recipe.roles["hidden"]
    pattern = ParameterPattern(pattern=HOSTILE, init_std=hidden.init_std_mult)
    by_role = emit(found.model_copy(update={"base_plan": ()}), Target(WIDTH, {}), "yaml").recipe
    source = recipe if to == "pytorch" else by_role
    roles = source.roles | {"hidden": hidden.model_copy(update={"parameters": (pattern,)})}
    hostile = source.model_copy(update={"roles": roles, "warnings": (HOSTILE,)})
    sheet: Sheet = sheet_of(hostile, None if to == "pytorch" else STOCK_ROLES)
    plain = FORMATS[to].write(replace(sheet, header=()))
    text = FORMATS[to].write(replace(sheet, header=(HOSTILE, f"warning: {HOSTILE}")))
    if to == "nemo-automodel":
        assert yaml.safe_load(text) == yaml.safe_load(plain)
        return
    assert ast.dump(ast.parse(text)) == ast.dump(ast.parse(plain))
    if to == "pytorch":
        assert executed(text)["PATTERNS"][HOSTILE] == "hidden"


def test_a_comment_is_one_whatever_it_holds() -> None:
    lines = comment(HOSTILE * 5)
    assert all(line.startswith("# ") and line.isprintable() for line in lines)
    assert comment("") == ["# "]


@pytest.mark.parametrize("value", [1e-8, 2.5e-09, 0.0, 16.0, 1e22, 0.1 + 0.2, 3e-4])
def test_numbers_are_numbers_in_every_language(value: float) -> None:
    text = number(value)
    assert yaml.safe_load(text) == ast.literal_eval(text) == value
    assert isinstance(yaml.safe_load(text), float)


def test_exit_codes_and_lines_of_the_command(
    document: Document, run: Callable[..., Result], tmp_path: Path
) -> None:
    path = tmp_path / "exponents.yaml"
    path.write_text(dump(document()))
    args = ("transfer", path, "--width", WIDTH, "--to")
    refused = run(*args, "nemo-automodel")
    assert refused.exit_code == 6
    assert refused.stdout == ""
    assert "--to nemo-automodel cannot hold: init std by role" in refused.stderr
    lossy = run(*args, "nemo-automodel", "--allow-lossy")
    assert lossy.exit_code == 0
    assert "dropped, --to nemo-automodel cannot hold it: attention scale" in lossy.stderr
    assert "warning: folded: " in lossy.stderr
    assert run(*args, "toml").exit_code == 2
    assert run(*args, "pytorch", "--json").exit_code == 2
    assert run(*args, "json").stdout == run(*args[:-1], "--json").stdout


def test_help_names_every_format(run: Callable[..., Result]) -> None:
    said = " ".join(run("transfer", "--help").stdout.split())
    for to in (*PLAIN, *FORMATS):
        assert to in said
