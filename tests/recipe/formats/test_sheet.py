from __future__ import annotations

import ast

import pytest
import yaml

from mutransfer_cli.recipe.formats.dispatch import emit
from mutransfer_cli.recipe.formats.sheet import (
    STOCK_ROLES,
    comment,
    fold_attention,
    number,
    sheet_of,
)
from mutransfer_cli.recipe.roles import Target
from tests.recipe.formats.conftest import HOSTILE, QUERY, WIDTH, Document


def test_a_comment_is_one_whatever_it_holds() -> None:
    lines = comment(HOSTILE * 5)
    assert all(line.startswith("# ") and line.isprintable() for line in lines)
    assert comment("") == ["# "]


@pytest.mark.parametrize("value", [1e-8, 2.5e-09, 0.0, 16.0, 1e22, 0.1 + 0.2, 3e-4])
def test_numbers_are_numbers_in_every_language(value: float) -> None:
    text = number(value)
    assert yaml.safe_load(text) == ast.literal_eval(text) == value
    assert isinstance(yaml.safe_load(text), float)


def test_an_attention_scale_is_folded_into_the_queries(document: Document) -> None:
    """The ratio of 1/d_head to 1/sqrt(d_head), 8^-0.5 for heads of 8, scales the query weights."""
    found = document(optimizer={"weight_decay": 0.1})
    sheet = sheet_of(emit(found, Target(WIDTH, {}, True), "yaml").recipe)
    folded = fold_attention(sheet)
    query, hidden = folded.values["query"], sheet.values["hidden"]
    assert hidden.weight_decay is not None
    assert hidden.eps is not None
    assert (query.lr, query.init) == pytest.approx((hidden.lr * QUERY, hidden.init * QUERY))
    assert query.weight_decay == pytest.approx(hidden.weight_decay / QUERY)
    assert query.eps == pytest.approx(hidden.eps / QUERY)
    assert query.independent == pytest.approx(hidden.independent)
    assert folded.unusual_scale is None
    assert fold_attention(folded) == folded


def test_the_rest_of_a_sheet_is_hidden(document: Document) -> None:
    sheet = sheet_of(emit(document(), Target(WIDTH, {}), "yaml").recipe)
    assert list(sheet.values) == ["embedding", "readout", "hidden"]
    assert (sheet.rest_role, sheet.rest) == ("hidden", sheet.values["hidden"])
    assert sheet.width_mult == 16
    stock = emit(document(), Target(WIDTH, {}, by_role=True), "yaml").recipe
    assert list(sheet_of(stock, STOCK_ROLES).values) == list(STOCK_ROLES)
