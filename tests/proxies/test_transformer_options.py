"""Options of the built-in decoder: the parameters that each adds, and what it computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mutransfer_cli.proxies.build import build_built_in, read_base_plan
from mutransfer_cli.proxies.transformer import Attention, Transformer
from mutransfer_cli.rules.plan import BaseParameter
from mutransfer_cli.spec.decoder import Architecture, ModelProtocol, TransformerSpec
from tests.proxies.options import OPTIONS

VOCAB, CONTEXT, WIDTH = 32, 12, 16

# by name in block 0: role, shape, axes that grow, std and mean at init
Table = dict[str, tuple[str, tuple[int, ...], tuple[int, ...], float, float]]


def protocol(options: dict[str, Any]) -> ModelProtocol:
    spec = TransformerSpec.model_validate({"depth": 1, "head_size": 8} | options)
    resolved = {key: getattr(spec, key) for key in Architecture.model_fields}
    return ModelProtocol(
        **resolved, family="transformer", vocab=VOCAB, attention_scale="1/sqrt(d_head)"
    )


def model(options: dict[str, Any], width: int = WIDTH) -> Transformer:
    torch.manual_seed(0)
    built = build_built_in(protocol(options), CONTEXT, width)
    assert isinstance(built, Transformer)
    return built


def base_plan(options: dict[str, Any]) -> tuple[BaseParameter, ...]:
    return read_base_plan(lambda width: model(options, width), WIDTH)


def table(options: dict[str, Any]) -> Table:
    return {
        p.name.removeprefix("blocks.0."): (
            *(p.role, p.shape, p.growing_axes),
            *(p.init_std, p.init_mean),
        )
        for p in base_plan(options)
    }


PLAIN: Table = {
    "embedding.weight": ("embedding", (32, 16), (1,), 1.0, 0.0),
    "attention.qkv.weight": ("hidden", (48, 16), (0, 1), 1 / 4, 0.0),
    "attention.out.weight": ("hidden", (16, 16), (0, 1), 1 / 4, 0.0),
    "up.weight": ("hidden", (64, 16), (0, 1), 1 / 4, 0.0),
    "down.weight": ("hidden", (16, 64), (0, 1), 1 / 8, 0.0),
    "readout.weight": ("readout", (32, 16), (1,), 1 / 4, 0.0),
}
QUERY: Table = {"attention.query.weight": ("hidden", (16, 16), (0, 1), 1 / 4, 0.0)}
NO_QUERY: Table = {"attention.query.weight": ("hidden", (16, 16), (0, 1), 0.0, 0.0)}
ONE_KV_HEAD: Table = {"attention.kv.weight": ("hidden", (16, 16), (1,), 1 / 4, 0.0)}
GROWING_KV: Table = {"attention.kv.weight": ("hidden", (16, 16), (0, 1), 1 / 4, 0.0)}
NORMS = ("attention_norm", "mlp_norm", "final_norm")


def gains(*norms: str, size: int = 16, grow: bool = True) -> Table:
    role, axes = ("vector", (0,)) if grow else ("scalar", ())
    return {f"{norm}.gain": (role, (size,), axes, 0.0, 1.0) for norm in norms}


def biases(**sizes: int) -> Table:
    return {
        f"{name.replace('__', '.')}.bias": ("vector", (size,), (0,), 0.0, 0.0)
        for name, size in sizes.items()
    }


OF_HEADS = ("attention.query_norm", "attention.key_norm")
ADDED: dict[str, Table] = {
    "layer": {},
    "vector gains": gains(*NORMS),
    "scalar gains": gains(*NORMS, size=1, grow=False),
    "layer with gains": gains(*NORMS),
    "qk_norm": {},
    "qk_norm with gains": gains(*NORMS) | gains(*OF_HEADS, size=8, grow=False),
    "zero query": NO_QUERY | {"attention.kv.weight": ("hidden", (32, 16), (0, 1), 1 / 4, 0.0)},
    "biases": biases(attention__qkv=48, attention__out=16, up=64, down=16),
    "biases, multi-query": QUERY
    | ONE_KV_HEAD
    | biases(attention__query=16, attention__out=16, up=64, down=16)
    | {"attention.kv.bias": ("scalar", (16,), (), 0.0, 0.0)},
    "standard readout": {},
    "zero readout": {"readout.weight": ("readout", (32, 16), (1,), 0.0, 0.0)},
    "embedding_norm": gains("embedding_norm", *NORMS, size=1, grow=False),
    "relu": {},
    "squared_relu": {},
    "swiglu": {
        "gate.weight": ("hidden", (40, 16), (0, 1), 1 / 4, 0.0),
        "up.weight": ("hidden", (40, 16), (0, 1), 1 / 4, 0.0),
        "down.weight": ("hidden", (16, 40), (0, 1), 40**-0.5, 0.0),
    },
    "multi-query": QUERY
    | ONE_KV_HEAD
    | {
        "up.weight": ("hidden", (80, 16), (0, 1), 1 / 4, 0.0),
        "down.weight": ("hidden", (16, 80), (0, 1), 80**-0.5, 0.0),
    },
    "grouped-query": QUERY | GROWING_KV,
    "learned positions": {"positions.weight": ("embedding", (12, 16), (1,), 1.0, 0.0)},
    "growing heads": gains(*NORMS) | gains(*OF_HEADS, size=8),
    "llama": QUERY
    | GROWING_KV
    | gains(*NORMS)
    | {
        "gate.weight": ("hidden", (56, 16), (0, 1), 1 / 4, 0.0),
        "up.weight": ("hidden", (56, 16), (0, 1), 1 / 4, 0.0),
        "down.weight": ("hidden", (16, 56), (0, 1), 56**-0.5, 0.0),
    },
}


@pytest.mark.parametrize("name", OPTIONS)
def test_roles_shapes_and_inits(name: str) -> None:
    expected = PLAIN | ADDED[name]
    if "attention.query.weight" in expected:
        del expected["attention.qkv.weight"]
    assert table(OPTIONS[name]) == expected


def test_a_tied_weight_is_a_readout() -> None:
    expected = {name: row for name, row in PLAIN.items() if name != "embedding.weight"}
    assert table({"tied_embeddings": True}) == expected
    tied = model({"tied_embeddings": True})
    assert tied.embedding.weight is tied.readout.weight


def test_only_a_standard_readout_has_an_exponent_of_its_own() -> None:
    for options in OPTIONS.values():
        found = {p.name: p.init_exponent for p in base_plan(options)}
        expected = -0.5 if options.get("readout_init") == "standard" else None
        assert found.pop("readout.weight") == expected
        assert set(found.values()) == {None}


@pytest.mark.parametrize("name", ["multi-query", "grouped-query", "llama", "growing heads"])
def test_a_wider_model_has_the_planned_shapes(name: str) -> None:
    """Shapes of the built-in model at other widths follow from those of the base plan."""
    shapes = {n: tuple(p.shape) for n, p in model(OPTIONS[name], 3 * WIDTH).named_parameters()}
    for p in base_plan(OPTIONS[name]):
        grown = tuple(s * 3 if axis in p.growing_axes else s for axis, s in enumerate(p.shape))
        assert shapes.pop(p.name) == grown
    assert not shapes


def rms(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


def plain_decoder(weights: dict[str, Tensor], tokens: Tensor, rotate: Callable[..., Any]) -> Tensor:
    """The default model of depth 1 with two heads of 8, written out."""
    x = weights["embedding.weight"][tokens]
    B, S, D = x.shape
    qkv = F.linear(rms(x), weights["blocks.0.attention.qkv.weight"])
    q, k, v = qkv.view(B, S, 3, 2, 8).permute(2, 0, 3, 1, 4)
    q, k = rotate(q), rotate(k)
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=8**-0.5)
    mixed = mixed.transpose(1, 2).reshape(B, S, D)
    x = x + F.linear(mixed, weights["blocks.0.attention.out.weight"])
    inner = F.gelu(F.linear(rms(x), weights["blocks.0.up.weight"]))
    x = x + F.linear(inner, weights["blocks.0.down.weight"])
    return F.linear(rms(x), weights["readout.weight"])


def rotated(x: Tensor) -> Tensor:
    """Rotary positions by complex numbers: features i and i + 4 turn by position * 10000^(-i/4)."""
    angle = torch.outer(torch.arange(x.shape[2]), 10_000.0 ** (-torch.arange(4) / 4))
    turned = torch.complex(x[..., :4], x[..., 4:]) * torch.polar(torch.ones(()), angle)
    return torch.cat((turned.real, turned.imag), -1)


TOKENS = torch.randint(VOCAB, (2, CONTEXT), generator=torch.Generator().manual_seed(1))


def test_the_default_is_the_plain_decoder() -> None:
    plain = model({})
    expected = plain_decoder(dict(plain.named_parameters()), TOKENS, rotated)
    torch.testing.assert_close(plain(TOKENS), expected, rtol=1e-5, atol=1e-6)


def with_values(built: Transformer) -> Transformer:
    """Move gains and biases away from 1 and 0, all in float64."""
    built = built.double()
    with torch.no_grad():
        for name, parameter in built.named_parameters():
            if name.endswith((".gain", ".bias")):
                parameter.add_(torch.randn_like(parameter) / 3)
    return built


def test_the_llama_preset_is_llama() -> None:
    """Llama of transformers with the same weights is the reference."""
    transformers: Any = pytest.importorskip("transformers")
    ours = with_values(model({"preset": "llama", "depth": 2, "kv_group": 2}, 32))
    config = transformers.LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=32,
        intermediate_size=112,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        rms_norm_eps=1e-6,
        use_cache=False,
        attn_implementation="eager",
    )
    theirs = transformers.LlamaForCausalLM(config).double()
    names = {
        "embedding.weight": "model.embed_tokens.weight",
        "final_norm.gain": "model.norm.weight",
        "readout.weight": "lm_head.weight",
    }
    of_block = {
        "attention_norm.gain": "input_layernorm.weight",
        "attention.query.weight": "self_attn.q_proj.weight",
        "attention.out.weight": "self_attn.o_proj.weight",
        "mlp_norm.gain": "post_attention_layernorm.weight",
        "gate.weight": "mlp.gate_proj.weight",
        "up.weight": "mlp.up_proj.weight",
        "down.weight": "mlp.down_proj.weight",
    }
    values = {}
    for name, parameter in ours.state_dict().items():
        if name in names:
            values[names[name]] = parameter
            continue
        _, block, rest = name.split(".", 2)
        if rest == "attention.kv.weight":
            attention = f"model.layers.{block}.self_attn"
            keys, values_ = parameter.chunk(2)
            values |= {f"{attention}.k_proj.weight": keys, f"{attention}.v_proj.weight": values_}
        else:
            values[f"model.layers.{block}.{of_block[rest]}"] = parameter
    theirs.load_state_dict(values, strict=True)
    torch.testing.assert_close(ours(TOKENS), theirs(TOKENS).logits, rtol=1e-6, atol=1e-6)


def test_layernorm_gains_biases_and_learned_positions_are_torchs() -> None:
    """Everett et al.'s block, from torch's own functions."""
    options = {"norm": "layer", "gains": "vector", "biases": True, "positions": "learned"}
    ours = with_values(model(options))
    w = dict(ours.named_parameters())

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (WIDTH,), w[f"{name}.gain"], eps=1e-6)

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, w[f"blocks.0.{name}.weight"], w[f"blocks.0.{name}.bias"])

    x = F.embedding(TOKENS, w["embedding.weight"]) + w["positions.weight"]
    heads = linear(norm(x, "blocks.0.attention_norm"), "attention.qkv").view(2, CONTEXT, 3, 2, 8)
    q, k, v = heads.permute(2, 0, 3, 1, 4)
    scores = (q @ k.mT / 8**0.5).masked_fill(~torch.ones(12, 12).tril().bool(), -torch.inf)
    x = x + linear((scores.softmax(-1) @ v).transpose(1, 2).flatten(2), "attention.out")
    x = x + linear(F.gelu(linear(norm(x, "blocks.0.mlp_norm"), "up")), "down")
    expected = F.linear(norm(x, "final_norm"), w["readout.weight"])
    torch.testing.assert_close(ours(TOKENS), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("of", ["query", "key"])
def test_qk_norm_makes_attention_blind_to_the_size_of_queries_and_keys(of: str) -> None:
    for options, blind in (({"qk_norm": True}, True), ({}, False)):
        built: Any = model({"kv_heads": 1} | options).double()
        before, attention = built(TOKENS), built.blocks[0].attention
        with torch.no_grad():
            (attention.query.weight if of == "query" else attention.kv.weight[:8]).mul_(100)
        assert torch.allclose(before, built(TOKENS), atol=1e-3) == blind


def test_queries_of_one_kv_head_share_its_keys() -> None:
    """Multi-query attention is plain attention with identical heads of keys and values."""
    shared, plain = model({"kv_heads": 1}).double(), model({}).double()
    weights = shared.state_dict()
    query, kv = (weights.pop(f"blocks.0.attention.{name}.weight") for name in ("query", "kv"))
    keys, values = kv.chunk(2)
    weights["blocks.0.attention.qkv.weight"] = torch.cat((query, keys, keys, values, values))
    plain.load_state_dict(weights)
    torch.testing.assert_close(shared(TOKENS), plain(TOKENS))


@pytest.mark.parametrize(
    ("mlp", "inner"),
    [
        ("relu", lambda up, gate: up.clamp(min=0)),
        ("squared_relu", lambda up, gate: up.clamp(min=0) ** 2),
        ("swiglu", lambda up, gate: gate * gate.sigmoid() * up),
    ],
)
def test_mlps(mlp: str, inner: Callable[[Tensor, Tensor], Tensor]) -> None:
    block: Any = model({"mlp": mlp}).blocks[0]
    x = torch.randn(3, WIDTH)
    up, gate = (x @ m.weight.T if m is not None else x for m in (block.up, block.gate))
    torch.testing.assert_close(block.mlp(x), inner(up, gate) @ block.down.weight.T)


def test_a_norm_after_the_embedding_hides_its_size() -> None:
    built = model({"embedding_norm": True}).double()
    before = built(TOKENS)
    with torch.no_grad():
        built.embedding.weight.mul_(3)
    torch.testing.assert_close(built(TOKENS), before, rtol=1e-4, atol=1e-4)


def test_the_attention_scale_follows_a_growing_head_size() -> None:
    scales: dict[str, list[float]] = {}
    for formula in ("1/d_head", "1/sqrt(d_head)"):
        grows = protocol({"head_size": None, "heads": 2}).model_copy(
            update={"attention_scale": formula}
        )
        for width in (16, 64):
            built = build_built_in(grows, CONTEXT, width)
            assert isinstance(built, Transformer)
            (attention,) = (m for m in built.modules() if isinstance(m, Attention))
            scales.setdefault(formula, []).append(attention.scale)
    assert scales == {"1/d_head": [1 / 8, 1 / 32], "1/sqrt(d_head)": [8**-0.5, 32**-0.5]}
