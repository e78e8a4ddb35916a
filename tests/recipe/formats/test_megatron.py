from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from mutransfer_cli.errors import NotExpressible
from tests.recipe.formats.conftest import LR, WIDTH, Document, claimed_once, executed, written

NAMES = {
    "embedding": [
        "module.module.embedding.word_embeddings.weight",
        "embedding.position_embeddings.weight",
    ],
    "readout": ["module.module.output_layer.weight"],
    "vector": [
        "decoder.final_layernorm.weight",
        "module.module.decoder.layers.0.self_attention.linear_qkv.layer_norm_weight",
        "module.decoder.layers.11.mlp.linear_fc1.layer_norm_weight",
        "module.decoder.layers.11.mlp.linear_fc1.layer_norm_bias",
        "module.decoder.layers.11.input_layernorm.weight",
        "decoder.layers.3.pre_mlp_layernorm.bias",
        "decoder.layers.3.self_attention.linear_proj.bias",
    ],
    "hidden": [
        *(f"decoder.layers.0.self_attention.linear_{x}.weight" for x in ("qkv", "proj")),
        *(f"module.decoder.layers.11.mlp.linear_fc{n}.weight" for n in (1, 2)),
    ],
}
Paper = Callable[..., Any]


def arguments(**changes: Any) -> SimpleNamespace:
    given = {"lr": LR / 16, "weight_decay": 1.6, "untie_embeddings_and_output_weights": True}
    return SimpleNamespace(**given | changes)


def claims(text: str, names: list[str], paper: Paper) -> Iterator[tuple[str, float, float]]:
    def predicate(name: str, fn: Any) -> Any:
        return fn

    def key(with_name_predicate: Any) -> Any:
        return with_name_predicate

    config = "megatron.core.optimizer.optimizer_config"
    paper(config, ParamKey=key, ParamWithNamePredicate=predicate)
    training = paper(
        "megatron.training.training", get_megatron_optimizer_config=lambda args: ("config", {})
    )
    emitted = executed(text)
    emitted["install"]()
    _, overrides = training.get_megatron_optimizer_config(arguments())
    for name in names:
        found = [values for matches, values in overrides.items() if matches(None, name)]
        values = found[0] if found else {"max_lr": LR / 16, "wd_mult": 1.0}
        assert len(found) == (emitted["role_of"](name) != "hidden")
        yield name, values["max_lr"], 1.6 * values["wd_mult"]


def test_every_parameter_is_claimed_once_with_its_roles_values(
    document: Document, paper: Paper
) -> None:
    text = written(document(optimizer={"weight_decay": 0.1}), "megatron")
    claimed_once(NAMES, lambda names: claims(text, names, paper))


@pytest.fixture
def emitted(document: Document) -> dict[str, Any]:
    return executed(written(document(optimizer={"weight_decay": 0.1}), "megatron"))


def test_init_is_absolute_by_role(emitted: dict[str, Any]) -> None:
    stds = {role: std for role, (_, std, _) in emitted["INIT"].items()}
    expected = {"embedding": 1, "readout": 1 / 64, "vector": 0, "hidden": 1 / 16}
    assert stds == pytest.approx(expected, rel=1e-5)
    assert emitted["INIT"]["hidden"][2] == WIDTH
    for role, names in NAMES.items():
        assert {emitted["role_of"](name) for name in names} == {role}


def test_the_attention_scale_stays_in_the_forward_pass(document: Document) -> None:
    text = written(document(), "megatron")
    assert "ATTENTION_SCALE, HEAD_SIZE = 0.125, 8  # 1/d_head" in text
    assert "#   set_attention_scale(config) on the TransformerConfig, before the model" in text
    usual = written(document(model={"attention_scale": "1/sqrt(d_head)"}), "megatron")
    assert "attention_scale" not in usual.split("import math")[1]


def test_a_checkpoint_can_tell_all_groups_apart(emitted: dict[str, Any]) -> None:
    marks = [values["lr_mult"] for values in emitted["GROUPS"].values()]
    assert len({1.0, *marks}) == len(marks) + 1, "1.0 is the default group's"


def test_a_parameter_that_no_proxy_had_is_refused(emitted: dict[str, Any]) -> None:
    for name in ("decoder.layers.0.mlp.router.weight", "decoder.layers.0.mlp.experts.weight1"):
        with pytest.raises(ValueError, match=f"{re.escape(name)}: no model with it was swept"):
            emitted["role_of"](name)


def test_arguments_with_which_it_would_train_otherwise_are_refused(
    emitted: dict[str, Any],
) -> None:
    emitted["check"](arguments())
    changes: dict[str, dict[str, Any]] = {
        "leave out --use-mup": {"use_mup": True},
        "leave out --use-mup and --decoupled-lr": {"decoupled_lr": 1.0},
        "tied weight.*add --untie-embeddings": {"untie_embeddings_and_output_weights": False},
        "--lr 1.0 is not the recipe's": {"lr": 1.0},
        "--weight-decay 0.1 is not": {"weight_decay": 0.1},
    }
    for said, change in changes.items():
        with pytest.raises(ValueError, match=said):
            emitted["check"](arguments(**change))


def test_muons_flags_are_the_sweeps(document: Document) -> None:
    found = document(optimizer={"name": "muon", "lr_adjustment": "match_rms_adamw"})
    text = written(found, "megatron")
    flags = executed(text)["FLAGS"]
    for words in (
        ["--optimizer", "muon"],
        ["--muon-scale-mode", "spectral", "--muon-extra-scale-factor", "0.2"],
        ["--muon-no-split-qkv"],
    ):
        assert flags[flags.index(words[0]) :][: len(words)] == words
    assert "# Muon is that of core 0.18 and later with the package emerging-optimizers" in text


@pytest.mark.parametrize(
    ("model", "what"), [({"mlp": "swiglu"}, "gate and up"), ({"query_init": "zero"}, "queries")]
)
def test_muon_is_refused_where_megatron_would_join_matrices(
    document: Document, model: dict[str, Any], what: str
) -> None:
    with pytest.raises(NotExpressible, match=f"the sweep orthogonalised {what}"):
        written(document(optimizer={"name": "muon"}, model=model), "megatron")
