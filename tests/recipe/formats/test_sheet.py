from __future__ import annotations

import ast

import pytest
import yaml

from mutransfer_cli.recipe.formats.dispatch import emit
from mutransfer_cli.recipe.formats.sheet import comment, number, sheet_of
from mutransfer_cli.recipe.roles import Target
from tests.recipe.formats.conftest import HOSTILE, WIDTH, Document


def test_a_comment_is_one_whatever_it_holds() -> None:
    lines = comment(HOSTILE * 5)
    assert all(line.startswith("# ") and line.isprintable() for line in lines)
    assert comment("") == ["# "]


@pytest.mark.parametrize("value", [1e-8, 2.5e-09, 0.0, 16.0, 1e22, 0.1 + 0.2, 3e-4])
def test_numbers_are_numbers_in_every_language(value: float) -> None:
    text = number(value)
    assert yaml.safe_load(text) == ast.literal_eval(text) == value
    assert isinstance(yaml.safe_load(text), float)


def test_the_rest_of_a_sheet_is_hidden(document: Document) -> None:
    sheet = sheet_of(emit(document(), Target(WIDTH, {}), "yaml").recipe)
    assert list(sheet.values) == ["embedding", "readout", "hidden"]
    assert (sheet.rest_role, sheet.rest) == ("hidden", sheet.values["hidden"])
    assert sheet.width_mult == 16
