from __future__ import annotations

from dataclasses import replace

import pytest

from mutransfer_cli.errors import NotExpressible
from mutransfer_cli.recipe.formats import FORMATS
from mutransfer_cli.recipe.formats.capability import losses
from mutransfer_cli.recipe.formats.dispatch import emit, format_of
from mutransfer_cli.recipe.formats.sheet import sheet_of
from mutransfer_cli.recipe.roles import Target
from tests.recipe.formats.conftest import TRAINERS, WIDTH, Document


def test_what_cannot_be_held_is_refused_or_named(document: Document) -> None:
    to, found = "nemo-automodel", document()
    with pytest.raises(NotExpressible, match=rf"to {to} cannot hold: init stds \(embedding 1,"):
        emit(found, Target(WIDTH, {}), to)
    emitted = emit(found, Target(WIDTH, {}), to, allow_lossy=True)
    assert [item.split(" (")[0] for item in emitted.dropped] == ["init stds"]
    assert "# DROPPED, set it by hand: init stds" in emitted.text


@pytest.mark.parametrize("to", sorted({*FORMATS} - {"nemo-automodel"}))
def test_what_is_held_is_no_loss(document: Document, to: str) -> None:
    assert not emit(document(), Target(WIDTH, {}), to).dropped


@pytest.mark.parametrize("to", sorted({*TRAINERS} - {"nemo-automodel"}))
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
    poor = replace(format_of("nemo-automodel"), **nothing)  # type: ignore[arg-type]
    assert [item.split(" (")[0] for item in losses(poor, sheet, sheet)] == [
        "learning rates by role",
        "weight decay by role",
        "betas",
        "init stds",
        "multipliers",
        "ratios between learning rates while the schedule runs",
        "attention scale 1/d_head",
    ]


@pytest.mark.parametrize("to", TRAINERS)
@pytest.mark.parametrize("name", ["muon", "lion", "sgd", "adafactor", "adam_atan2"])
def test_an_optimizer_that_is_not_there_is_refused(document: Document, to: str, name: str) -> None:
    if name in format_of(to).optimizers:
        return
    with pytest.raises(NotExpressible, match=f"to {to}: optimizer {name} cannot be written"):
        emit(document(optimizer={"name": name}), Target(WIDTH, {}), to, allow_lossy=True)


def test_decay_that_torch_lacks_is_refused(document: Document) -> None:
    found = document(optimizer={"name": "sgd", "weight_decay": 0.1})
    with pytest.raises(NotExpressible, match="passes through the momentum"):
        emit(found, Target(WIDTH, {}), "pytorch")
