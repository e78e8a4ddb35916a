from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jinja2
import pytest
import yaml

from mutransfer_cli.recipe.formats import FORMATS
from mutransfer_cli.recipe.formats.dispatch import emit, format_of
from mutransfer_cli.recipe.formats.sheet import STOCK_KINDS, Sheet, sheet_of
from mutransfer_cli.recipe.formats.template import render
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.recipe.types import ParameterPattern
from tests.recipe.formats.conftest import (
    HOSTILE,
    WIDTH,
    Document,
    executed,
    without_protocol,
    written,
)

PYTHON = [to for to in FORMATS if to != "nemo-automodel"]


@pytest.mark.parametrize("to", FORMATS)
def test_text_of_a_recipe_cannot_become_code(document: Document, to: str) -> None:
    """The header has a hostile warning and, if the target takes any names, hostile patterns."""
    found = document(optimizer={"weight_decay": 0.1})
    named, write = format_of(to).any_names, format_of(to).write
    source = found if named else found.model_copy(update={"base_plan": ()})
    recipe = emit(source, Target(WIDTH, {}), "yaml").recipe
    roles = {
        role: values.model_copy(
            update={
                "parameters": (
                    ParameterPattern(pattern=HOSTILE + role, init_std=values.init_std_mult),
                )
            }
        )
        for role, values in recipe.roles.items()
    }
    hostile = recipe.model_copy(update={"roles": roles, "warnings": (HOSTILE,)})
    sheet = sheet_of(hostile)
    if not named:
        kinds = [str(kind) for kind in STOCK_KINDS if kind in sheet.values]
        sheet = Sheet(hostile, {kind: sheet.values[kind] for kind in kinds})
    plain = write(replace(sheet, header=()))
    text = write(replace(sheet, header=(HOSTILE, f"warning: {HOSTILE}")))
    if to == "nemo-automodel":
        assert yaml.safe_load(text) == yaml.safe_load(plain)
        overrides = yaml.safe_load(text)["optimizer"]["param_group_overrides"]
        assert overrides[0]["pattern"] == f"^({HOSTILE}embedding)$"
        return
    assert ast.dump(ast.parse(text)) == ast.dump(ast.parse(plain))
    if named:
        assert executed(text)["PATTERNS"] == {HOSTILE + role: role for role in roles}


def test_emitted_python_passes_ruff(document: Document, tmp_path: Path) -> None:
    """Line length is not checked, because a table has one row per line."""
    found = document(optimizer={"weight_decay": 0.1})
    documents = {
        "folded": found,
        "no_names": found.model_copy(update={"base_plan": ()}),
        "one_rate": without_protocol(found, weight_decay=None),
        "usual_scale": document(model={"attention_scale": "1/sqrt(d_head)"}),
    }
    emitted = tmp_path / "emitted"
    emitted.mkdir()
    for to in PYTHON:
        for name, changed in documents.items():
            if (to, name) != ("megatron", "one_rate"):  # flags, no Python
                text = written(changed, to, folded=name == "folded")
                compile(text, name, "exec")
                (emitted / f"{to}-{name}.py").write_text(text)
    ruff = ("ruff", "check", "--isolated", "--no-cache", "--select", "E,F", "--ignore", "E501")
    done = subprocess.run(
        [sys.executable, "-m", *ruff, emitted], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_a_name_that_a_template_is_not_given_is_an_error(document: Document) -> None:
    sheet = sheet_of(emit(document(), Target(WIDTH, {}), "yaml").recipe)
    with pytest.raises(jinja2.UndefinedError, match="'patterns' is undefined"):
        render("transformers.py.jinja", sheet)
