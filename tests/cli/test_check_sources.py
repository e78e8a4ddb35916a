"""`mutransfer check` recognises sources by content and refuses options that do not apply."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli.check.gates import Asked
from mutransfer_cli.cli.check_sources import Source, TrainingOptions
from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.options import TableOptions
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.spec.yaml_io import dump
from tests.cli.test_own_table import NO_OPTIONS
from tests.recipe.test_build import exponents, recipe_of

Run = Callable[..., Any]
NOTHING = TrainingOptions(None, None, None, None, None)
NO_TABLE = TableOptions(**NO_OPTIONS)


def source(path: Path, **options: Any) -> Source:
    given = {"records": None, "group": None, "model": None, "optimizer": None} | options
    return Source(path, **given, options=NOTHING, table=NO_TABLE)


@pytest.fixture
def recipe(tiny: dict[str, Any], prepare: Callable[..., Any], tmp_path: Path) -> Path:
    found: Recipe = recipe_of(exponents(prepare(tiny)), 64)
    path = tmp_path / "recipe.yaml"
    path.write_text(dump(found))
    return path


def test_a_recipe_is_put_through_the_static_gate(recipe: Path) -> None:
    gates = source(recipe).verdicts(Asked(gates=frozenset({"static"})))
    assert [(gate.gate, gate.verdict) for gate in gates] == [("static", "pass")]


@pytest.mark.parametrize(
    ("asked", "options", "sentence"),
    [
        (Asked(), {"group": "a"}, "--group: is not for a recipe, as .*recipe.yaml is"),
        (Asked(held_out=128), {}, "--held-out 128: the recipe is for width 64; leave it out"),
        (
            Asked(gates=frozenset({"exponent"})),
            {"model": "x:y"},
            "--model: is for the gate static, which",
        ),
    ],
)
def test_options_that_are_not_for_a_recipe_are_refused(
    recipe: Path, asked: Asked, options: dict[str, str], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        source(recipe, **options).verdicts(asked)


def test_options_of_training_need_a_spec() -> None:
    NOTHING.refuse()
    with pytest.raises(InputError, match="--seeds: is for gates that train; give their sweep spec"):
        TrainingOptions(None, None, None, 2, None).refuse()


def test_other_files_are_refused(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text("schema: mutransfer.check/1\n")
    result = run("check", path)
    assert result.exit_code == 2
    assert "other.yaml: is the result of a check; give the file that was checked" in result.stderr
    path.write_text("schema: mine/1\n")
    result = run("check", path)
    assert result.exit_code == 2
    assert "is neither a recipe, exponents, records nor a sweep spec" in result.stderr
