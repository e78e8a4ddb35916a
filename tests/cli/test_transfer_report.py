"""The recipe as it is printed: a value for every role, and how sure it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli.cli.transfer_report import print_recipe
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.spec.yaml_io import dump
from mutransfer_cli.sweep.prepare import Sweep
from tests.recipe.test_build import exponents, recipe_of

Prepare = Callable[[dict[str, Any]], Sweep]


@pytest.fixture
def recipe(tiny: dict[str, Any], prepare: Prepare) -> Recipe:
    return recipe_of(exponents(prepare(tiny)), 64)


def printed(recipe: Recipe, capsys: pytest.CaptureFixture[str]) -> list[str]:
    print_recipe(recipe)
    return capsys.readouterr().err.splitlines()


def test_every_role_has_a_row_and_every_column_a_status(
    recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = printed(recipe, capsys)
    assert lines[0].startswith("At width 64 use lr 0.")
    at = next(at for at, line in enumerate(lines) if line.startswith("what each role gets"))
    head, *rows, status = (line.split() for line in lines[at + 1 : at + 3 + len(recipe.roles)])
    assert head[:3] == ["role", "lr", "decay"]
    assert {row[0] for row in rows} == set(recipe.roles)
    assert status[:2] == ["status", "fitted"]


def test_statuses_that_differ_stand_beside_their_values(
    recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    hidden = recipe.roles["hidden"]
    assumed = hidden.model_copy(update={"lr": hidden.lr.model_copy(update={"status": "assumed"})})
    mixed = recipe.model_copy(update={"roles": {**recipe.roles, "hidden": assumed}})
    text = "\n".join(printed(mixed, capsys))
    assert "(assumed)" in text
    assert "(fitted)" in text


def test_a_folder_is_read_by_its_exponents(
    run: Callable[..., Any], tiny: dict[str, Any], prepare: Prepare, tmp_path: Path
) -> None:
    (tmp_path / "exponents.yaml").write_text(dump(exponents(prepare(tiny))))
    result = run("transfer", tmp_path, "--width", 64, "-o", tmp_path / "recipe.yaml")
    assert result.exit_code == 0, result.stderr
    assert f'load_recipe("{tmp_path / "recipe.yaml"}")' in result.stderr
    assert result.stderr.splitlines()[-1].endswith("--model my_package.models:build")
