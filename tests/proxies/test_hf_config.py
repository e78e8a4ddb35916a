"""Configs as they are trained: refused types, other depths and head sizes."""

from __future__ import annotations

import socket
from typing import Any

import pytest
import torch

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.build import build_proxy
from mutransfer_cli.proxies.hf import possible_widths
from mutransfer_cli.proxies.hf_config import load_transformers, read_config
from mutransfer_cli.proxies.hf_sizes import scale
from mutransfer_cli.spec.model import HfProtocol, HfSizes
from tests.proxies.census import small_config
from tests.proxies.published import PUBLISHED

pytest.importorskip("transformers")


def model(config: dict[str, Any], **changed: int) -> HfProtocol:
    return HfProtocol(hf=config, untie=True, roles={}, vocab=128, sizes=HfSizes(**changed))


def read(config: dict[str, Any], **changed: int) -> Any:
    return read_config(load_transformers(), model(config, **changed))


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"model_type": "lama"}, "of model_type lama; the nearest are llama, .*, .*; .*factory: "),
        ({"model_type": "vit"}, "of model_type vit; .* use model: {factory: package.module:func"),
        ({"model_type": "musicgen"}, "musicgen has no hidden_size .* use model: {factory: "),
        (
            {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text"}},
            'gemma3 is a model of several parts; give its text_config, .*"gemma3_text"',
        ),
        ({"model_type": "gpt_neo", "num_layers": 2}, "len.config.attention_layers.* == "),
    ],
)
def test_refusals_are_one_short_sentence(config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as raised:
        read(config)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


def test_noise_and_special_tokens_are_off() -> None:
    phi = read(small_config("phimoe") | {"router_jitter_noise": 0.01, "input_jitter_noise": 0.01})
    assert (phi.router_jitter_noise, phi.input_jitter_noise) == (0.0, 0.0)
    bart = read(small_config("bart") | {"decoder_layerdrop": 0.5})
    assert (bart.decoder_layerdrop, bart.dropout) == (0.0, 0.0)
    mpt = read(small_config("mpt") | {"attn_config": {"attn_pdrop": 1}})
    assert mpt.attn_config.attn_pdrop == 0, "a whole number, as its class demands"
    cwm = read(small_config("cwm"))
    assert (cwm.pad_token_id, cwm.bos_token_id) == (None, 0), "its class demands a number"


def test_no_token_of_the_data_is_padding() -> None:
    """ModernBERT's class demands a padding token, whose row torch would not train."""
    proxy = build_proxy(model(small_config("modernbert-decoder")), 16, 64, 64)
    embeddings = [m for m in proxy.modules() if isinstance(m, torch.nn.Embedding)]
    assert [m.padding_idx for m in embeddings] == [None]


@pytest.mark.parametrize(
    ("config", "depth", "kept"),
    [
        ("llama", 3, {"num_hidden_layers": 3}),
        ("gpt2", 1, {"n_layer": 1}),
        ("bart", 3, {"decoder_layers": 3, "encoder_layers": 3}),
        ("xglm", 3, {"num_layers": 3}),
        ("lfm2_moe", 1, {"layer_types": ["conv"]}),
        ("lfm2_moe", 3, {"layer_types": ["conv", "full_attention", "conv"]}),
    ],
)
def test_depth_cuts_or_repeats_lists_by_layer(config: str, depth: int, kept: Any) -> None:
    found = read(small_config(config), depth=depth)
    assert {name: getattr(found, name) for name in kept} == kept
    assert found.num_hidden_layers == depth


def test_layers_that_are_named_by_number_are_dropped() -> None:
    config = small_config("zamba2") | {"num_hidden_layers": 4, "hybrid_layer_ids": [1, 3]}
    config["layers_block_type"] = ["mamba", "hybrid"] * 2
    assert read(config, depth=2).hybrid_layer_ids == [1]
    layers = {"1": {"intermediate_size": 32}, "3": {"intermediate_size": 64}}
    heterogeneous = small_config("llama") | {"num_hidden_layers": 4, "per_layer_config": layers}
    found = read(heterogeneous, depth=2)
    assert [layer.intermediate_size for layer in found.per_layer_config] == [160, 32]


@pytest.mark.parametrize(
    ("name", "group", "step"),
    [
        ("Llama 3 8B", None, 64),
        ("Phi-4", None, 64),
        ("Gemma 2 9B", None, 32),
        ("Mixtral 8x7B", None, 64),
        ("GPT-OSS 20B", None, 128),
        ("GPT-OSS 20B", 4, 64),
        ("Llama 3 8B", 1, 16),
    ],
)
def test_published_models_have_small_proxies(name: str, group: int | None, step: int) -> None:
    changed = {"head_size": 16, "depth": 2} | ({"kv_group": group} if group else {})
    config: Any = build_proxy(model(PUBLISHED[name], **changed), 16, step, 2 * step).config
    heads = 2 * step // 16
    assert (config.hidden_size, config.num_attention_heads) == (2 * step, heads)
    assert config.num_key_value_heads == heads * 16 // step
    assert config.num_hidden_layers == 2
    declared = PUBLISHED[name]
    exact = 2 * step * declared["intermediate_size"] / declared["hidden_size"]
    assert config.intermediate_size == exact
    with pytest.raises(InputError, match=r"no whole number of heads|do not divide"):
        build_proxy(model(declared, **changed), 16, step, 3 * step // 2 if group != 1 else 24)


WIDTHS = (64, 128, 256, 512)


@pytest.mark.parametrize(
    ("name", "changed", "base_width", "widths"),
    [
        ("Llama 3 8B", {"head_size": 16}, 64, WIDTHS),
        ("Phi-4", {"head_size": 16}, 64, WIDTHS),
        ("Gemma 2 9B", {"head_size": 16}, 32, WIDTHS),
        ("Mixtral 8x7B", {"head_size": 16}, 64, WIDTHS),
        ("GPT-OSS 20B", {"head_size": 16}, 128, (128, 256, 512, 1024)),
        ("Llama 3 8B", {"head_size": 24}, 96, (96, 192, 384, 768)),
        ("Gemma 2 9B", {}, 448, (448, 896, 1792, 3584)),
    ],
)
def test_the_default_widths_of_checks_are_possible_ones(
    name: str, changed: dict[str, int], base_width: int, widths: tuple[int, ...]
) -> None:
    assert possible_widths(model(PUBLISHED[name], **changed), base_width, WIDTHS) == widths


def test_without_changes_the_same_models_have_large_ones() -> None:
    with pytest.raises(InputError, match="use a multiple of 224"):
        build_proxy(model(PUBLISHED["Gemma 2 9B"]), 16, 128, 128)


def test_what_is_in_units_of_the_head_size_follows_it() -> None:
    gemma = read(PUBLISHED["Gemma 2 9B"], head_size=16)
    assert (gemma.head_dim, gemma.query_pre_attn_scalar) == (16, 16)
    granite = read(small_config("granite") | {"attention_multiplier": 1 / 16}, head_size=4)
    assert granite.attention_multiplier == 1 / 8, "a quarter of its 1/sqrt(d_head), as before"
    assert read(small_config("gptj"), head_size=8).rotary_dim == 4
    factors = {"short_factor": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], "long_factor": [1.0] * 8}
    rope = {"rope_type": "longrope", "rope_theta": 10000.0, **factors}
    rope |= {"original_max_position_embeddings": 32}
    phi = scale(read(small_config("phi3") | {"rope_parameters": rope}, head_size=8), 64, 64)
    assert phi.rope_parameters["short_factor"] == [1.0, 3.0, 5.0, 7.0]


@pytest.mark.parametrize(
    ("config", "changed", "sentence"),
    [
        ("deepseek_v3", {"head_size": 8}, "deepseek_v3 has heads of several sizes; leave"),
        ("mamba", {"head_size": 8}, "mamba has no attention heads; leave"),
        ("gpt2", {"kv_group": 2}, "gpt2 has no kv heads; leave it out"),
    ],
)
def test_models_without_such_heads(config: str, changed: dict[str, int], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        read(small_config(config), **changed)


def test_nothing_is_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    for model_type in ("mamba", "qwen3_next", "gpt_oss", "jamba"):
        proxy = build_proxy(model(small_config(model_type)), 16, 64, 64)
        proxy(torch.zeros(1, 16, dtype=torch.int64))
