"""Roles of parameters by family, written from knowledge of the architectures; N is any block.

A matrix whose fan-in is a fixed size inside the model (the latent of DeepSeek's attention) is an
embedding, one whose fan-in grows is hidden (routers, the gate of a shared expert), what acts on
channels or heads one by one is a vector (convolutions by channel, Mamba's A_log, sinks, experts'
biases), and what no width is in is a scalar (norms of heads and latents, routers' biases).
"""

from __future__ import annotations

from mutransfer_cli.rules.choices import Role

Roles = dict[str, Role]


def named(role: Role, prefix: str, names: str) -> Roles:
    return {f"{prefix}{name}": role for name in names.split()}


def layer(norms: str, matrices: str, biases: bool = False) -> Roles:
    """Norms and matrices of a block, with biases on all of them or without any."""
    vectors = [f"{name}.weight" for name in norms.split()]
    if biases:
        vectors += [f"{name}.bias" for name in (norms + " " + matrices).split()]
    weights = " ".join(f"{name}.weight" for name in matrices.split())
    return named("vector", "", " ".join(vectors)) | named("hidden", "", weights)


def model(embedding: str, prefix: str, block: Roles, last: str, head: str = "lm_head") -> Roles:
    """All of a model.

    Args:
        embedding: names of tables.
        last: names of the gains and biases outside of blocks.
    """
    return (
        named("embedding", "", embedding)
        | {f"{prefix}.N.{name}": role for name, role in block.items()}
        | named("vector", "", last)
        | {f"{head}.weight": "readout"}
    )


def modern(block: Roles, last: str = "norm.weight") -> Roles:
    return model("model.embed_tokens.weight", "model.layers", block, f"model.{last}")


QKV, GATED = (
    "self_attn.q_proj self_attn.k_proj self_attn.v_proj",
    "mlp.gate_proj mlp.up_proj mlp.down_proj",
)
ATTENTION = f"{QKV} self_attn.o_proj"
NORMS = "input_layernorm post_attention_layernorm"
GEMMAS = f"{NORMS} pre_feedforward_layernorm post_feedforward_layernorm"
DENSE = layer(NORMS, f"{ATTENTION} {GATED}")
QKV_BIASES = named("vector", "", " ".join(f"{name}.bias" for name in QKV.split()))
HEAD_NORMS = named("scalar", "self_attn.", "q_norm.weight k_norm.weight")
EXPERTS = named("hidden", "mlp.", "gate.weight experts.gate_up_proj experts.down_proj")
MOE = layer(NORMS, ATTENTION) | EXPERTS
SHARED = named(
    "hidden",
    "mlp.",
    "shared_expert.gate_proj.weight shared_expert.up_proj.weight shared_expert.down_proj.weight "
    "shared_expert_gate.weight",
)
MAMBA = (
    named("vector", "", "A_log D conv1d.weight conv1d.bias dt_proj.bias")
    | named(
        "hidden", "", "in_proj.weight x_proj.weight dt_proj.weight out_proj.weight"
    )  # rank n/16
)
MAMBA_2 = named("vector", "", "dt_bias A_log D conv1d.weight conv1d.bias norm.weight") | named(
    "hidden", "", "in_proj.weight out_proj.weight"
)
DELTA_NET = (
    named("vector", "linear_attn.", "dt_bias A_log conv1d.weight")
    | named("scalar", "linear_attn.", "norm.weight")
    | named("hidden", "linear_attn.", "in_proj_qkvz.weight in_proj_ba.weight out_proj.weight")
)
LATENT = (
    named("hidden", "self_attn.", "q_a_proj.weight kv_a_proj_with_mqa.weight o_proj.weight")
    | named("embedding", "self_attn.", "q_b_proj.weight kv_b_proj.weight")
    | named("scalar", "self_attn.", "q_a_layernorm.weight kv_a_layernorm.weight")
)
RWKV = layer(
    "pre_ln ln1 ln2",
    "attention.key attention.value attention.receptance attention.output "
    "feed_forward.key feed_forward.receptance feed_forward.value",
) | named(
    "vector",
    "",
    "pre_ln.bias ln1.bias ln2.bias attention.time_decay attention.time_first "
    "attention.time_mix_key attention.time_mix_value attention.time_mix_receptance "
    "feed_forward.time_mix_key feed_forward.time_mix_receptance",
)


def prefixed(prefix: str, block: Roles) -> Roles:
    return {f"{prefix}{name}": role for name, role in block.items()}


ROLES: dict[str, Roles] = {
    "llama": modern(DENSE),
    "qwen2": modern(DENSE | QKV_BIASES),
    "qwen3": modern(DENSE | HEAD_NORMS),
    "gemma": modern(DENSE),
    "gemma2": modern(layer(GEMMAS, f"{ATTENTION} {GATED}")),
    "gemma3_text": modern(layer(GEMMAS, f"{ATTENTION} {GATED}") | HEAD_NORMS),
    "granite": modern(DENSE),
    "cohere": modern(layer("input_layernorm", f"{ATTENTION} {GATED}")),
    "phi3": modern(
        layer(NORMS, "self_attn.qkv_proj self_attn.o_proj mlp.gate_up_proj mlp.down_proj")
    ),
    "mixtral": modern(MOE),
    "qwen3_moe": modern(MOE | HEAD_NORMS),
    "qwen2_moe": modern(MOE | QKV_BIASES | SHARED),
    "qwen3_next": modern(MOE | HEAD_NORMS | SHARED | DELTA_NET),
    "deepseek_v3": modern(
        layer(NORMS, GATED)
        | LATENT
        | EXPERTS
        | named(
            "hidden",
            "mlp.shared_experts.",
            "gate_proj.weight up_proj.weight down_proj.weight",
        )
    ),
    "gpt_oss": modern(
        layer(NORMS, ATTENTION)
        | named("vector", "", " ".join(f"{name}.bias" for name in ATTENTION.split()))
        | named("vector", "", "self_attn.sinks mlp.experts.gate_up_proj_bias")
        | named("vector", "", "mlp.experts.down_proj_bias")
        | named("hidden", "mlp.", "router.weight experts.gate_up_proj experts.down_proj")
        | named("scalar", "mlp.", "router.bias")
    ),
    "jamba": modern(
        layer("input_layernorm pre_ff_layernorm", ATTENTION)
        | layer("", "feed_forward.gate_proj feed_forward.up_proj feed_forward.down_proj")
        | named("hidden", "feed_forward.", "router.weight experts.gate_up_proj experts.down_proj")
        | prefixed("mamba.", MAMBA | {"dt_layernorm.weight": "vector"})
        | named("scalar", "mamba.", "b_layernorm.weight c_layernorm.weight"),
        "final_layernorm.weight",
    ),
    "mamba": model(
        "backbone.embeddings.weight",
        "backbone.layers",
        prefixed("mixer.", MAMBA) | {"norm.weight": "vector"},
        "backbone.norm_f.weight",
    ),
    "mamba2": model(
        "backbone.embeddings.weight",
        "backbone.layers",
        prefixed("mixer.", MAMBA_2) | {"norm.weight": "vector"},
        "backbone.norm_f.weight",
    ),
    "rwkv": model(
        "rwkv.embeddings.weight",
        "rwkv.blocks",
        RWKV,
        "rwkv.ln_out.weight rwkv.ln_out.bias",
        "head",
    ),
    "gpt2": model(
        "transformer.wte.weight transformer.wpe.weight",
        "transformer.h",
        layer("ln_1 ln_2", "attn.c_attn attn.c_proj mlp.c_fc mlp.c_proj", biases=True),
        "transformer.ln_f.weight transformer.ln_f.bias",
    ),
    "gpt_neox": model(
        "gpt_neox.embed_in.weight",
        "gpt_neox.layers",
        layer(
            NORMS,
            "attention.query_key_value attention.dense mlp.dense_h_to_4h mlp.dense_4h_to_h",
            biases=True,
        ),
        "gpt_neox.final_layer_norm.weight gpt_neox.final_layer_norm.bias",
    ),
    "opt": model(
        "model.decoder.embed_tokens.weight model.decoder.embed_positions.weight",
        "model.decoder.layers",
        layer("self_attn_layer_norm final_layer_norm", f"{QKV} self_attn.out_proj fc1 fc2", True),
        "model.decoder.final_layer_norm.weight model.decoder.final_layer_norm.bias",
    ),
    "bloom": model(
        "transformer.word_embeddings.weight",
        "transformer.h",
        layer(
            NORMS,
            "self_attention.query_key_value self_attention.dense "
            "mlp.dense_h_to_4h mlp.dense_4h_to_h",
            biases=True,
        ),
        "transformer.word_embeddings_layernorm.weight transformer.word_embeddings_layernorm.bias "
        "transformer.ln_f.weight transformer.ln_f.bias",
    ),
    "falcon": model(
        "transformer.word_embeddings.weight",
        "transformer.h",
        layer(
            "input_layernorm",
            "self_attention.query_key_value self_attention.dense "
            "mlp.dense_h_to_4h mlp.dense_4h_to_h",
        )
        | {"input_layernorm.bias": "vector"},
        "transformer.ln_f.weight transformer.ln_f.bias",
    ),
}
