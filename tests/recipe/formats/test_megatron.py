from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.recipe.formats.conftest import LR, Document, claimed_once, executed, written

NAMES = {
    "embedding": ["module.module.embedding.word_embeddings.weight"],
    "readout": ["module.module.output_layer.weight"],
    "vector": [
        "decoder.final_layernorm.weight",
        "module.module.decoder.layers.0.self_attention.linear_qkv.layer_norm_weight",
        "module.decoder.layers.11.mlp.linear_fc1.layer_norm_weight",
        "module.decoder.layers.11.input_layernorm.weight",
    ],
    "hidden": [
        *(f"decoder.layers.0.self_attention.linear_{x}.weight" for x in ("qkv", "proj")),
        *(f"module.decoder.layers.11.mlp.linear_fc{n}.weight" for n in (1, 2)),
    ],
}


def claims(
    text: str, names: list[str], paper: Callable[..., Any]
) -> Iterator[tuple[str, float, float]]:
    def predicate(name: str, fn: Any) -> Any:
        return fn

    def key(with_name_predicate: Any) -> Any:
        return with_name_predicate

    config = "megatron.core.optimizer.optimizer_config"
    paper(config, ParamKey=key, ParamWithNamePredicate=predicate)
    arguments = SimpleNamespace(lr=LR / 16, weight_decay=1.6)
    training = paper(
        "megatron.training.training", get_megatron_optimizer_config=lambda args: ("config", {})
    )
    emitted = executed(text)
    emitted["install"]()
    with pytest.raises(ValueError, match="leave out --use-mup"):
        training.get_megatron_optimizer_config(SimpleNamespace(use_mup=True))
    _, overrides = training.get_megatron_optimizer_config(arguments)
    for name in names:
        for matches, values in overrides.items():
            if matches(None, name):
                assert values["min_lr"] == 0
                yield name, values["max_lr"], 1.6 * values["wd_mult"]


@pytest.fixture
def emitted(document: Document) -> dict[str, Any]:
    return executed(written(document(), "megatron", folded=True))


def test_every_parameter_is_claimed_once_with_its_roles_values(
    document: Document, paper: Callable[..., Any]
) -> None:
    text = written(document(optimizer={"weight_decay": 0.1}), "megatron")
    claimed_once(NAMES, lambda names: claims(text, names, paper))


def test_init_is_scaled_by_role(emitted: dict[str, Any]) -> None:
    expected = {"embedding": 1, "readout": 1 / 16, "vector": 1, "hidden": 1 / 4}
    assert emitted["INIT_FACTORS"] == pytest.approx(expected, rel=1e-5)
    for role, names in NAMES.items():
        assert {emitted["role_of"](name) for name in names} == {role}


def test_its_patterns_do_not_overlap(emitted: dict[str, Any]) -> None:
    for role, names in NAMES.items():
        for name in names:
            hits = [r for pattern, r in emitted["PATTERNS"].items() if re.search(pattern, name)]
            assert hits == ([] if role == "hidden" else [role])


def test_megatrons_own_mup_is_for_its_own_rule_alone(document: Document) -> None:
    def native(**changes: Any) -> bool:
        return "--use-mup\n" in written(document(**changes), "megatron")

    assert native()
    assert "eps differs" in written(document(), "megatron")
    assert "--use-mup\n" not in written(document(), "megatron", folded=True)
    assert not native(optimizer={"lr_mult": {"hidden": 2}})
    assert not native(optimizer={"lr_mult": {}, "weight_decay": 0.1})
    assert not native(optimizer={"weight_decay": 0}, parameterization={"alignment": "none"})
    assert not native(parameterization={"alignment": "full", "name": "standard"})
