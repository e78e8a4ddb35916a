"""Sizes of Hugging Face configs at other widths."""

from __future__ import annotations

from typing import Any

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.hf_config import load_transformers, read_config
from mutransfer_cli.proxies.hf_sizes import scale, sizes, step_of
from mutransfer_cli.spec.model import HfProtocol
from tests.proxies.census import small_config

pytest.importorskip("transformers")


def scaled(model_type: str, base: int, width: int, to_train: bool = True, **changes: Any) -> Any:
    config = small_config(model_type) | changes
    model = HfProtocol(hf=config, untie=True, roles={}, vocab=128)
    return scale(read_config(load_transformers(), model), base, width, to_train)


@pytest.mark.parametrize(
    ("model_type", "grown"),
    [
        ("llama", {"num_attention_heads": 8, "num_key_value_heads": 4, "intermediate_size": 320}),
        ("gpt2", {"n_embd": 128, "n_head": 8}),
        ("opt", {"ffn_dim": 320, "word_embed_proj_dim": 128}),
        ("xglm", {"d_model": 128, "ffn_dim": 320, "attention_heads": 8}),
        ("bart", {"d_model": 128, "decoder_ffn_dim": 320, "decoder_attention_heads": 8}),
        ("ctrl", {"dff": 320}),
        ("falcon", {"num_kv_heads": 4, "ffn_hidden_size": 320, "num_attention_heads": 8}),
        ("qwen2_moe", {"shared_expert_intermediate_size": 64, "moe_intermediate_size": 64}),
        ("qwen3_next", {"linear_num_key_heads": 8, "linear_num_value_heads": 8}),
        ("mamba", {"intermediate_size": 256, "time_step_rank": 8}),
        ("mamba2", {"num_heads": 16}),
        ("jamba", {"mamba_dt_rank": 8, "intermediate_size": 320}),
        ("zamba", {"attention_hidden_size": 256, "mamba_dt_rank": 8, "n_mamba_heads": 16}),
        ("falcon_h1", {"mamba_d_ssm": 256, "mamba_n_heads": 16}),
        ("nemotron_h", {"mamba_num_heads": 16, "moe_shared_expert_intermediate_size": 64}),
        ("recurrent_gemma", {"lru_width": 128}),
        ("rwkv", {"attention_hidden_size": 128, "intermediate_size": 320}),
        ("dbrx", {"ffn_config.ffn_hidden_size": 320, "attn_config.kv_n_heads": 4}),
        ("gemma3n_text", {"intermediate_size": [320, 320]}),
        ("deepseek_v3", {"moe_intermediate_size": 64, "num_attention_heads": 8}),
    ],
)
def test_what_grows_in_published_families_grows(model_type: str, grown: dict[str, Any]) -> None:
    lists: dict[str, Any] = {"intermediate_size": [160, 160]}
    changes = lists if model_type == "gemma3n_text" else {}
    base, wide = (sizes(scaled(model_type, 64, width, **changes)) for width in (64, 128))
    assert {name: wide[name] for name in grown} == grown
    halves = {name: size for name, size in wide.items() if size != base[name]}
    assert all(size == double(base[name]) for name, size in halves.items())


def double(size: Any) -> Any:
    return [2 * item for item in size] if isinstance(size, list) else 2 * size


@pytest.mark.parametrize(
    ("model_type", "fixed"),
    [
        # 512 and 1536 in DeepSeek-V2 of width 5120 and V3 of 7168; 512 in V2-Lite of width 2048
        ("deepseek_v3", ["kv_lora_rank", "q_lora_rank", "v_head_dim", "n_routed_experts"]),
        ("mamba2", ["head_dim", "state_size", "n_groups", "conv_kernel"]),
        ("qwen3_next", ["head_dim", "linear_key_head_dim", "linear_conv_kernel_dim"]),
        ("gptj", ["rotary_dim", "n_positions"]),
        ("opt", ["max_position_embeddings", "num_hidden_layers"]),
    ],
)
def test_what_stays_in_published_families_stays(model_type: str, fixed: list[str]) -> None:
    base, wide = (sizes(scaled(model_type, 64, width)) for width in (64, 128))
    assert [wide[name] for name in fixed] == [base[name] for name in fixed]


def test_layers_with_sizes_of_their_own_keep_the_ratio() -> None:
    """Gemma 4 has heads of two sizes; those of whole attention have their own kv heads."""
    config = scaled(
        "gemma4_text",
        64,
        128,
        layer_types=["sliding_attention", "full_attention"],
        global_head_dim=32,
        attention_k_eq_v=True,
        num_global_key_value_heads=1,
    )
    found = [(x.head_dim, x.num_key_value_heads) for x in config.per_layer_config]
    assert found == [(16, 4), (32, 2)]


def test_kv_heads_stay_where_the_ratio_gives_no_whole_number() -> None:
    assert scaled("llama", 16, 64).num_key_value_heads == 2
    assert scaled("llama", 32, 64).num_key_value_heads == 2, "one at the base width"
    assert scaled("llama", 64, 32, to_train=False).num_key_value_heads == 1
    with pytest.raises(InputError, match="width 48, 3 heads, which 2 kv heads to 4 heads do not"):
        scaled("llama", 16, 48)
    assert scaled("llama", 16, 48, to_train=False).num_key_value_heads == 1


def test_groups_of_heads_divide_them() -> None:
    assert scaled("mamba2", 64, 32, n_groups=4).num_heads == 4
    with pytest.raises(InputError, match="width 16, num_heads 2, which n_groups 4 does not divide"):
        scaled("mamba2", 64, 16, n_groups=4)


def test_every_kind_of_head_is_whole() -> None:
    config = small_config("qwen3_next") | {"linear_num_value_heads": 2, "linear_num_key_heads": 2}
    model = HfProtocol(hf=config, untie=True, roles={}, vocab=128)
    assert step_of(read_config(load_transformers(), model)) == 32
    with pytest.raises(InputError, match=r"width 16, .*no whole number of heads; .*multiple of 32"):
        scaled("qwen3_next", 64, 16, linear_num_value_heads=2, linear_num_key_heads=2)
