from __future__ import annotations

import pytest

from mutransfer_cli.recipe.formats.dispatch import emit, format_of
from mutransfer_cli.recipe.formats.header import header_of, schedule_note
from mutransfer_cli.recipe.formats.sheet import Sheet, sheet_of
from mutransfer_cli.recipe.roles import Target
from tests.recipe.formats.conftest import TRAINERS, WIDTH, Document


def sheet_for(document: Document, **changes: dict[str, object]) -> Sheet:
    return sheet_of(emit(document(**changes), Target(WIDTH, {}), "yaml").recipe)


def test_it_says_where_the_values_are_from_and_what_they_are(document: Document) -> None:
    sheet = sheet_for(document)
    fmt = format_of("torchtitan")
    said = list(header_of(fmt, sheet.recipe, sheet, ["betas"], False))
    assert said[0].endswith("for torchtitan")
    assert said[1] == f"written for {fmt.written_for}"
    first = 2 + len(fmt.unverified)
    assert said[2:first] == [f"not verified: {fact}" for fact in fmt.unverified]
    said = said[first:]
    assert said[0] == "values are absolute, for width 256 (mup, base width 16)"
    assert said[1].startswith("base learning rate 0.0156, 95% interval 0.0121 to 0.0202")
    assert said[2] == "DROPPED, set it by hand: betas"
    assert said[3].startswith("holds for depth 1, head_size 8")


@pytest.mark.parametrize(
    ("train", "end"),
    [
        ({"clip": None}, "linear decay to zero; no gradient clipping known"),
        ({"schedule": "constant"}, "held constant; gradients clipped at norm 1"),
        (
            {"schedule": "wsd", "decay_fraction": 0.3},
            "held constant, in the last 3 (0.3 of all) linear decay to zero; gradients clipped at "
            "norm 1",
        ),
    ],
)
def test_the_schedule_in_words(document: Document, train: dict[str, object], end: str) -> None:
    sheet = sheet_for(document, train=train)
    assert schedule_note(sheet) == f"schedule of the fit: warm-up 2 of 10 steps, {end}"


@pytest.mark.parametrize("to", TRAINERS)
def test_folding_is_said_with_where_it_is_not_exact(document: Document, to: str) -> None:
    emitted = emit(document(optimizer={"weight_decay": 0.1}), Target(WIDTH, {}), to, True)
    said = emitted.text.replace("\n#  ", "")
    assert "# folded: multipliers are moved into init" in said
    assert "warning: folded: gradient clipping will act at a different threshold" in said
    assert any(warning.startswith("folded: ") for warning in emitted.recipe.warnings)
