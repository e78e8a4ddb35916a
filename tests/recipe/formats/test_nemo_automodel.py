from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from mutransfer_cli.errors import NotExpressible
from mutransfer_cli.fit.exponents import Exponents
from tests.recipe.formats.conftest import LR, Document, claimed_once, written

NAMES = {
    "embedding": ["model.embed_tokens.weight"],
    "readout": ["lm_head.weight"],
    "vector": [
        "model.norm.weight",
        "model.layers.0.input_layernorm.weight",
        "model.layers.11.post_attention_layernorm.weight",
        "model.layers.0.input_layernorm._checkpoint_wrapped_module.weight",
    ],
    "query": ["model.layers.11.self_attn.q_proj.weight"],
    "hidden": [
        *(f"model.layers.11.self_attn.{x}_proj.weight" for x in "kvo"),
        *(f"model.layers.0.mlp.{x}_proj.weight" for x in ("gate", "up", "down")),
    ],
}


def claims(text: str, names: list[str]) -> Iterator[tuple[str, float, float]]:
    optimizer = yaml.safe_load(text)["optimizer"]
    for name in names:
        lr_mult = wd_mult = 1.0
        for override in optimizer["param_group_overrides"]:
            if re.search(override["pattern"], name):
                lr_mult, wd_mult = override["lr_mult"], override["wd_mult"]
                break
        yield name, optimizer["lr"] * lr_mult, optimizer["weight_decay"] * wd_mult


def test_every_parameter_is_claimed_once_with_its_roles_values(document: Document) -> None:
    text = written(document(optimizer={"weight_decay": 0.1}), "nemo-automodel")
    claimed_once(NAMES, lambda names: claims(text, names))


def rates(found: Exponents, to: str) -> Mapping[str, Any]:
    text: Any = yaml.safe_load(written(found, to))
    return {"lr": text["optimizer"]["lr"], **text["lr_scheduler"]}


def test_its_own_floor_and_warm_up_are_replaced(document: Document) -> None:
    found = rates(document(), "nemo-automodel")
    assert found == {
        "lr": pytest.approx(LR / 16),
        "lr_decay_style": "linear",
        "lr_warmup_steps": 2,
        "init_lr": 0.0,
        "min_lr": 0.0,
    }


def test_without_a_known_schedule_the_scheduler_still_applies_the_multipliers(
    document: Document,
) -> None:
    found = document()
    assert found.protocol is not None
    train = found.protocol.train.model_copy(update={"schedule": None})
    protocol = found.protocol.model_copy(update={"train": train})
    unknown = found.model_copy(update={"protocol": protocol})
    assert rates(unknown, "nemo-automodel")["lr_decay_style"] == "constant"
    said = written(unknown, "nemo-automodel").replace("\n#  ", "")
    assert "# lr_scheduler is there, and constant, as the schedule is not known" in said
    assert "tie_word_embeddings: false" in said
    assert "lr_scheduler is there" not in written(found, "nemo-automodel")


def test_init_stds_cannot_be_held(document: Document) -> None:
    with pytest.raises(NotExpressible, match=r"cannot hold: init stds \(embedding 1, readout 0.0"):
        written(document(), "nemo-automodel", allow_lossy=False)
