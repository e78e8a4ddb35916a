"""Sentences about a Hugging Face model: sizes that stay or are rounded, losses left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli.proxies.hf_notes import say_what_is_used
from mutransfer_cli.spec.model import HfProtocol
from tests.proxies.census import small_config

pytest.importorskip("transformers")

UNTESTED = "is not among the types that were trained"


def said(model_type: str, base_width: int | None = 64, **changes: Any) -> list[str]:
    config = small_config(model_type) | changes
    found: list[str] = []
    model = HfProtocol(hf=config, untie=True, roles={}, vocab=128)
    say_what_is_used(model, base_width, found.append)
    return [sentence for sentence in found if UNTESTED not in sentence]


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "opt", "falcon", "mamba2", "qwen3_next"])
def test_nothing_is_said_of_models_that_grow_as_a_whole(model_type: str) -> None:
    assert said(model_type, router_aux_loss_coef=0.0) == []


@pytest.mark.parametrize(
    ("model_type", "changes", "sentence"),
    [
        ("deepseek_v3", {}, "these sizes stay fixed: kv_lora_rank 16, q_lora_rank 16"),
        ("zamba2", {}, "these sizes stay fixed: adapter_rank 16"),
        ("opt", {"word_embed_proj_dim": 32}, "these sizes stay fixed: word_embed_proj_dim 32"),
        ("gemma3n_text", {}, "stay fixed: hidden_size_per_layer_input 16, altup_num_inputs 4, "),
        ("electra", {"embedding_size": 24}, "these sizes stay fixed: embedding_size 24"),
        (
            "mixtral",
            {"router_aux_loss_coef": 0.02},
            "the loss that balances experts (router_aux_loss_coef 0.02) is left out",
        ),
        ("deepseek_v3", {"aux_loss_alpha": 0.001}, "balances experts (aux_loss_alpha 0.001) is"),
    ],
)
def test_sizes_and_losses_that_differ(
    model_type: str, changes: dict[str, Any], sentence: str
) -> None:
    found = said(model_type, **changes)
    assert sum(sentence in one for one in found) == 1, found


def test_kv_heads_that_stay_and_rounded_sizes_have_one_line_each() -> None:
    eight = {"num_attention_heads": 8, "head_dim": 8}
    found = said("llama", 16, intermediate_size=170, **eight)
    assert found == [
        "model.hf: num_key_value_heads 2 at every width, as base width 16 gives no whole number of "
        "kv heads in the ratio to width 64",
        "model.hf: at width 16 it rounds intermediate_size 42.5 to 42, and likewise at others",
    ]
    assert said("llama", 16, num_key_value_heads=1, **eight) == [], "one is one at every width"


def test_a_model_of_its_own_width_is_not_scaled() -> None:
    assert said("deepseek_v3", None) == []


@pytest.mark.parametrize("command", ["dry run", "sweep", "rules"])
def test_each_is_said_once_by_every_command(
    tiny: dict[str, Any], write_spec: Any, run: Any, tmp_path: Path, command: str
) -> None:
    config = small_config("deepseek_v3") | {"intermediate_size": 90, "vocab_size": 256}
    config |= {"num_attention_heads": 8, "num_key_value_heads": 8, "num_hidden_layers": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    tiny["sweep"] |= {"widths": [16, 32], "seeds": [0], "axes": {"lr": [0.004]}}
    tiny["train"] |= {"steps": 2, "warmup": 0}
    spec = write_spec(tiny | {"model": {"hf": "config.json"}})
    args: tuple[Any, ...] = ("sweep-proxy", spec, "-o", tmp_path / "out")
    if command == "dry run":
        args = ("sweep-proxy", spec, "--dry-run")
    elif command == "rules":
        args = ("rules", spec, "--width", 32)
    result = run(*args)
    assert result.exit_code == 0, result.stderr
    said = " ".join(result.stderr.split())
    assert said.count("these sizes stay fixed: kv_lora_rank 16, q_lora_rank 16") == 1
    assert said.count("at width 16 it rounds intermediate_size 22.5 to 22") == 1
