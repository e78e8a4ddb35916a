"""Recipes loaded from any source, and the errors of bad ones."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli import load_recipe
from mutransfer_cli.errors import InputError
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.spec.yaml_io import dump
from tests.recipe.made import loaded


def test_path_open_file_bytes_and_stdin_are_the_same(
    folded: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, text = tmp_path / "recipe.yaml", dump(folded)
    path.write_text(text)
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    with path.open() as lines:
        sources: list[Any] = [path, str(path), lines, io.BytesIO(text.encode()), "-"]
        assert {load_recipe(source).recipe.model_dump_json() for source in sources} == {
            folded.model_dump_json()
        }
    assert load_recipe(io.StringIO(dump(folded, as_json=True))).recipe == folded


def test_what_is_no_recipe_is_refused_by_name(tmp_path: Path, folded: Recipe) -> None:
    with pytest.raises(InputError, match=r"none\.yaml: cannot be read"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(InputError, match=r"expected `schema: mutransfer\.recipe/1`, found x"):
        load_recipe(io.StringIO("schema: x"))
    with pytest.raises(InputError, match="is not UTF-8 text"):
        load_recipe(io.BytesIO(b"\xff"))
    with pytest.raises(InputError, match=r"wte\( \(hidden\) is not a regex"):
        loaded(folded, {"hidden": "wte("})
    with pytest.raises(
        InputError, match=r"recipe has no role vector .*valid: embedding, hidden, readout"
    ):
        loaded(folded, {"vector": "norm.weight"})


def test_the_package_imports_without_torch() -> None:
    program = (
        "import sys, mutransfer_cli\n"
        "assert 'torch' not in sys.modules\n"
        "assert callable(mutransfer_cli.load_recipe) and 'torch' in sys.modules\n"
        "try:\n    mutransfer_cli.recipe_load\n"
        "except AttributeError as error:\n    print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert result.stdout == "module 'mutransfer_cli' has no attribute 'recipe_load'\n"
