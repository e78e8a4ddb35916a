"""Emitted files compared with golden files, and the errors of `emit`.

To renew a golden file after an intended change, delete it and run this test twice: the first run
writes the file and fails. Review the difference like code.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mutransfer_cli.errors import InputError
from mutransfer_cli.recipe.formats import FORMATS, PLAIN
from mutransfer_cli.recipe.formats.dispatch import emit, format_of
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.spec.yaml_io import dump
from tests.conftest import Result
from tests.recipe.formats.conftest import WIDTH, Document, without_protocol, written

GOLDEN = Path(__file__).parent / "golden"
# the hash includes forecasts, whose last digits differ between machines
VARIES = re.compile(r"mutransfer \S+, recipe [0-9a-f]{16} for")

INDEPENDENT = {
    "parameterization": {"decay_convention": "independent"},
    "optimizer": {"weight_decay": 1e-3},
    "model": {"attention_scale": "1/sqrt(d_head)"},
    "train": {"schedule": "cosine"},
}


def held_against(text: str, name: str) -> None:
    text = VARIES.sub("mutransfer VERSION, recipe HASH for", text)
    path = GOLDEN / name
    if not path.exists():
        path.write_text(text)
        pytest.fail(f"{path} was missing and is written now; review it and run again")
    assert text == path.read_text()


def suffix(to: str) -> str:
    return "yaml.txt" if to == "nemo-automodel" else "py.txt"


@pytest.mark.parametrize("to", FORMATS)
def test_mup_folded(document: Document, to: str) -> None:
    found = document(optimizer={"weight_decay": 0.1})
    held_against(written(found, to, folded=True), f"{to}-mup.{suffix(to)}")


@pytest.mark.parametrize("to", FORMATS)
def test_independent_decay(document: Document, to: str) -> None:
    held_against(written(document(**INDEPENDENT), to), f"{to}-independent.{suffix(to)}")


def test_megatrons_flags_of_one_global_rate(document: Document) -> None:
    found = without_protocol(document(), weight_decay=0.1)
    held_against(written(found, "megatron"), "megatron-global.args.txt")


@pytest.mark.parametrize("path", sorted(GOLDEN.iterdir()), ids=lambda p: p.name)
def test_what_is_kept_is_of_its_grammar(path: Path) -> None:
    text = path.read_text()
    if path.stem.endswith(".py"):
        ast.parse(text)
    elif path.stem.endswith(".yaml"):
        found = yaml.safe_load(text)
        assert set(found) == {"optimizer", "lr_scheduler"}
        assert set(found["optimizer"]) == {
            *("_target_", "lr", "weight_decay", "betas", "eps", "param_group_overrides")
        }
        for override in found["optimizer"]["param_group_overrides"]:
            assert [type(override[key]) for key in ("pattern", "lr_mult", "wd_mult")] == [
                *(str, float, float)
            ]
    else:
        words = shlex.split(text, comments=True)
        assert words == [*("--optimizer", "adam", "--lr", "0.015625"), *words[4:]]


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


@pytest.mark.parametrize("to", FORMATS)
def test_every_listed_format_has_a_record(to: str) -> None:
    assert format_of(to).name == to


def test_plain_formats_are_the_recipe(document: Document) -> None:
    found, asked = document(), Target(WIDTH, {})
    recipe = emit(found, asked, "yaml").recipe
    assert emit(found, asked, "yaml").text == dump(recipe)
    assert emit(found, asked, "json").text == dump(recipe, as_json=True)


def test_an_unknown_format_is_named() -> None:
    nothing: Any = None
    with pytest.raises(InputError, match="to torchtitn: unknown; did you mean 'torchtitan'"):
        emit(nothing, Target(WIDTH, {}), "torchtitn")


def test_exit_codes_and_lines_of_the_command(
    document: Document, run: Callable[..., Result], tmp_path: Path
) -> None:
    path = tmp_path / "exponents.yaml"
    path.write_text(dump(document()))
    args = ("transfer", path, "--width", WIDTH, "--to")
    refused = run(*args, "nemo-automodel")
    assert refused.exit_code == 6
    assert refused.stdout == ""
    assert "--to nemo-automodel cannot hold: init stds (embedding 1, readout" in refused.stderr
    assert refused.stderr.endswith("or leave these out (--allow-lossy)\n")
    lossy = run(*args, "nemo-automodel", "--allow-lossy")
    assert lossy.exit_code == 0
    assert "dropped, --to nemo-automodel cannot hold it: init stds" in lossy.stderr
    assert "warning: folded: " in lossy.stderr
    assert run(*args, "toml").exit_code == 2
    assert run(*args, "pytorch", "--json").exit_code == 2
    assert run(*args, "json").stdout == run(*args[:-1], "--json").stdout


@pytest.mark.parametrize("to", [*PLAIN, *FORMATS])
def test_the_command_writes_every_format(
    document: Document, run: Callable[..., Result], tmp_path: Path, to: str
) -> None:
    path, found = tmp_path / "exponents.yaml", document()
    path.write_text(dump(found))
    result = run("transfer", path, "--width", WIDTH, "--to", to, "--allow-lossy")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == emit(found, Target(WIDTH, {}), to, allow_lossy=True).text


def test_help_names_every_format(run: Callable[..., Result]) -> None:
    said = " ".join(run("transfer", "--help").stdout.split())
    for to in (*PLAIN, *FORMATS):
        assert to in said
