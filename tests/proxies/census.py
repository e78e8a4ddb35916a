"""Small configs of every causal LM of transformers, made from the names of their sizes."""

from __future__ import annotations

import re
from typing import Any

import transformers

WIDTH, HEADS, VOCAB, CONTEXT = 64, 4, 128, 16

# by the last part of a field's name; the first that matches holds
SMALL: tuple[tuple[str, int], ...] = (
    (r"vocab", VOCAB),
    (r"position_embeddings|n_positions|n_ctx|max_seq_len|context_length|model_max_length", 64),
    (r"(first_k_dense_replace|num_dense_layers|num_kv_shared_layers|mtp_layers)$", 0),
    (r"^n_layers?$|num_hidden_layers|num_layers$|(de|en)coder_layers|num_blocks$", 2),
    (r"(key_value|kv)(_n)?_heads$|num_query_groups$", 2),
    (r"(dt|time_step)_rank$", WIDTH // 16),
    (r"d_rel$|lora_rank$|lowrank$|_rank$|hidden_size_per_layer_input", 16),
    (r"query_pre_attn_scalar$|kv_channels$", WIDTH // HEADS),
    (r"rotary_dim$|qk_rope_head_dim$", 8),
    (r"mamba_(headdim|d_head|head_dim)$", 16),
    (r"(mamba_n_heads|mamba_num_heads|n_mamba_heads)$", 8),
    (r"d_ssm$", 128),
    (r"(head_dim|head_size|d_head|dim_head|headdim)$", WIDTH // HEADS),
    (r"(^|_)heads?$", HEADS),
    (r"moe_intermediate_size$|shared_experts?_|expert_ffn", 32),
    (r"(intermediate_size|inner|dff|dim_ff|ffn_dim|ffn_hidden_size|feed_forward_size)", 160),
    (r"(experts_per_tok(en)?|moe_topk|moe_top_k|moe_k|top_k_experts)$", 2),
    (r"(n_group|topk_group|expert_group|n_groups|ngroups|o_groups)$", 1),
    (r"shared_experts$", 1),
    (r"experts?$|expert_num$", 4),
    (r"(hidden_size|embedding_size|emb(ed)?(ding)?_dim|n_embd|proj_dim|d_model|lru_width)$", WIDTH),
    (r"(window|window_size|chunk_size|chunk_length|index_topk|block_size)$", 64),
    (r"state_size|d_state", 8),
)


def small_config(model_type: str) -> dict[str, Any]:
    """A config with few small sizes, as in its file; untied where it can be."""
    default = transformers.CONFIG_MAPPING[model_type](**NEEDED.get(model_type, {}))
    changes = small_sizes(default) | SPECIAL.get(model_type, {})
    return {"model_type": model_type, "tie_word_embeddings": False, **changes}


def small_sizes(config: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    # multi-head latent attention computes these from its parts
    latent = hasattr(config, "qk_rope_head_dim")
    derived = ("head_dim", "qk_head_dim") if latent else ()
    for name, value in vars(config).items():
        if name in derived:
            continue
        if name == "num_key_value_heads" and latent:
            found[name] = HEADS
            continue
        if name == "is_decoder":
            found[name] = True
        if hasattr(value, "attribute_map"):
            found[name] = small_sizes(value)
        elif type(value) is int and not name.startswith("_") and "token_id" not in name:
            size = next((size for key, size in SMALL if re.search(key, name)), None)
            found |= {} if size is None else {name: size}
    return found


# by type, what its class demands beside its own defaults
NEEDED: dict[str, dict[str, Any]] = {
    "gemma4_assistant": {
        "text_config": {
            "model_type": "gemma4_text",
            "hidden_size_per_layer_input": 0,
            "vocab_size_per_layer_input": 0,
        }
    }
}
DOUBLE = {"attention_hidden_size": 2 * WIDTH, "attention_head_dim": 2 * WIDTH // HEADS}
SPECIAL: dict[str, dict[str, Any]] = {
    "gemma3n_text": {"intermediate_size": [160, 160], "activation_sparsity_pattern": [0.0, 0.0]},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "dbrx": {"attn_config": {"clip_qkv": 8, "kv_n_heads": 2, "rope_theta": 10000.0}},
    "deepseek_v3": {"first_k_dense_replace": 1},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "falcon_mamba": {"intermediate_size": 2 * WIDTH},
    "longcat_flash": {"head_dim": 8},
    "mamba": {"intermediate_size": 2 * WIDTH},
    "mamba2": {"num_heads": 8},
    "ministral": {"head_dim": 16},
    "nemotron": {"num_key_value_heads": 2},
    "qwen3_next": {"layer_types": ["linear_attention", "full_attention"]},
    "zamba": {"layers_block_type": ["mamba", "hybrid"], **DOUBLE},
    "zamba2": {"layers_block_type": ["mamba", "hybrid"], **DOUBLE},
    "zaya": {"num_experts_per_tok": 1},
}
