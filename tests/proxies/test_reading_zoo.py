"""A zoo of own models, with the role that a human gives every parameter.

The roles follow from the theory alone: in an `embedding` only the fan-out grows; in a `hidden`
matrix the fan-in grows, wherever it lies inside; so it does in a `readout`, whose output reaches
the loss without another matrix of growing fan-in; a `vector` grows and is one-dimensional or used
elementwise; a `scalar` does not grow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import NamedTuple

import pytest
from torch import nn

from mutransfer_cli.proxies.build import Reading, read_model
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.spec.model import FactoryProtocol
from tests.proxies import own_zoo, own_zoo_harder, own_zoo_shapes

BASES = (16, 32)
VOCAB, CONTEXT = 32, 16

EMBED: dict[str, Role] = {"embed.weight": "embedding"}
HEAD: dict[str, Role] = {"head.weight": "readout"}
ENDS = EMBED | HEAD


def all_of(role: Role, *names: str) -> dict[str, Role]:
    return dict.fromkeys(names, role)


def hidden(*names: str) -> dict[str, Role]:
    """Weights of layers of growing fan-in."""
    return dict.fromkeys((f"{name}.weight" for name in names), "hidden")


def biased(*names: str) -> dict[str, Role]:
    """The same layers with biases that grow."""
    return hidden(*names) | all_of("vector", *(f"{name}.bias" for name in names))


EXPERTS = ENDS | hidden("router") | all_of("hidden", "up", "down")
TORCHS_BLOCK = (
    hidden("block.self_attn.out_proj", "block.linear1", "block.linear2")
    | all_of("hidden", "block.self_attn.in_proj_weight")
    | all_of("vector", "block.self_attn.in_proj_bias", "block.self_attn.out_proj.bias")
    | all_of("vector", "block.linear1.bias", "block.linear2.bias")
    | all_of("vector", *(f"block.norm{n}.{leaf}" for n in (1, 2) for leaf in ("weight", "bias")))
)

ROLES: dict[Callable[..., nn.Module], Mapping[str, Role]] = {
    # gates, and layers of one value
    own_zoo.gate_of_one: ENDS | hidden("gate", "a") | all_of("scalar", "gate.bias"),
    own_zoo.from_one_number: ENDS | hidden("a") | all_of("vector", "age.weight", "age.bias"),
    own_zoo.squeeze_excite: ENDS
    | hidden("a", "squeeze")
    | all_of("scalar", "squeeze.bias")
    | all_of("embedding", "excite.weight")
    | all_of("vector", "excite.bias"),
    own_zoo.highway: ENDS | biased("carry", "a"),
    own_zoo.scales_of_layers: ENDS
    | hidden("a", "b")
    | all_of("vector", "layer_scale", "slopes.weight")
    | all_of("scalar", "rezero", "slope.weight", "temperature"),
    # several outputs
    own_zoo.value_head: ENDS
    | hidden("a")
    | all_of("readout", "value.weight")
    | all_of("scalar", "value.bias"),
    own_zoo.several_token_heads: EMBED
    | hidden("a", "own")
    | all_of("readout", "heads.0.weight", "heads.1.weight"),
    own_zoo.head_in_the_middle: ENDS
    | hidden("a", "b")
    | all_of("readout", "aux.weight")
    | all_of("scalar", "aux.bias"),
    own_zoo.mixture_of_softmaxes: ENDS | hidden("a", "latent") | all_of("readout", "prior.weight"),
    own_zoo.adaptive_softmax: EMBED
    | hidden("a", "softmax.tail.0.0")
    | all_of("readout", "softmax.head.weight", "softmax.tail.0.1.weight"),
    own_zoo.low_rank_head: EMBED
    | hidden("a")
    | all_of("readout", "down.weight")
    | all_of("scalar", "out.weight"),
    own_zoo.raw_ends: all_of("embedding", "table")
    | all_of("hidden", "inner")
    | all_of("readout", "out"),
    # tied weights
    own_zoo.tied_by_module: EMBED | hidden("a"),
    own_zoo.tied_by_call: all_of("embedding", "wte.weight") | hidden("a"),
    own_zoo.tied_raw: all_of("embedding", "table") | hidden("a"),
    own_zoo.one_block_twice: ENDS
    | biased("up", "down")
    | all_of("vector", "norm.weight", "norm.bias"),
    own_zoo.equilibrium: ENDS | hidden("inject") | biased("a"),
    # low rank, and products of more than two
    own_zoo.lora: hidden("lora_a") | all_of("embedding", "lora_b.weight"),
    own_zoo.latent_attention: ENDS
    | hidden("query", "down", "out")
    | all_of("scalar", "norm.weight")
    | all_of("embedding", "up.weight"),
    own_zoo.factorised_embedding: HEAD
    | hidden("a")
    | all_of("scalar", "small.weight")
    | all_of("embedding", "project.weight"),
    own_zoo.bilinear: ENDS | hidden("a") | biased("mix"),
    own_zoo.hypernetwork: ENDS | hidden("left", "right"),
    # mixtures of experts
    own_zoo.experts_by_bmm: EXPERTS,
    own_zoo.experts_by_einsum: EXPERTS,
    own_zoo.experts_by_index: EXPERTS,
    own_zoo.experts_by_token: ENDS
    | all_of("hidden", "router", "up", "down")
    | all_of("vector", "up_bias"),
    own_zoo.experts_as_modules: ENDS
    | hidden("router", *(f"experts.{expert}.{layer}" for expert in range(4) for layer in (0, 2)))
    | all_of("scalar", "bias"),
    own_zoo.soft_experts: ENDS | hidden("expert") | all_of("hidden", "slots"),
    own_zoo.product_keys: ENDS
    | hidden("query")
    | all_of("hidden", "keys")
    | all_of("embedding", "values.weight"),
    # positions, attention and its biases
    own_zoo.raw_positions: ENDS | hidden("a") | all_of("embedding", "position"),
    own_zoo.fused_qkv: ENDS | biased("qkv", "out") | all_of("vector", "norm.weight"),
    own_zoo.few_kv_heads: ENDS
    | hidden("query", "key", "value", "out")
    | all_of("scalar", "key.bias", "query_norm.weight"),
    own_zoo.gains_of_heads: ENDS | hidden("qkv", "out") | all_of("vector", "gain", "sinks"),
    own_zoo.relative_biases: ENDS
    | hidden("query", "key", "value", "out")
    | all_of("embedding", "table"),
    own_zoo.slopes_of_heads: ENDS
    | hidden("query", "key", "value", "out")
    | all_of("vector", "slopes"),
    own_zoo.heads_that_grow: ENDS
    | hidden("query", "key", "value", "out")
    | all_of("scalar", "slopes"),
    own_zoo.torchs_attention: ENDS
    | hidden("attention.out_proj")
    | all_of("hidden", "attention.in_proj_weight")
    | all_of("vector", "attention.in_proj_bias", "attention.out_proj.bias"),
    own_zoo.torchs_block: ENDS | TORCHS_BLOCK,
    # factors of the model's own code
    own_zoo.scaled_embedding: ENDS | hidden("a"),
    own_zoo.scaled_logits: ENDS | hidden("a"),
    # convolutions over tokens
    own_zoo_shapes.conv_stem: HEAD
    | hidden("grouped")
    | biased("mix")
    | all_of("embedding", "stem.weight")
    | all_of("vector", "stem.bias", "norm.weight", "norm.bias")
    | all_of("vector", "depthwise.weight", "depthwise.bias")
    | all_of("scalar", "head.bias"),
    own_zoo_shapes.growing_groups: ENDS | all_of("embedding", "mix.weight"),
    own_zoo_shapes.u_net: ENDS
    | biased("down", "bottom", "up", "join")
    | all_of("scalar", "head.bias"),
    own_zoo_shapes.long_filter: ENDS
    | hidden("a")
    | all_of("vector", "norm.weight", "norm.bias", "filter"),
    own_zoo_shapes.mixer: ENDS
    | hidden("narrow")
    | biased("channels")
    | all_of("scalar", "fixed.weight")
    | all_of("embedding", "widen.weight"),
    # reparametrised weights
    own_zoo_shapes.weight_norm: ENDS
    | all_of("hidden", "a.parametrizations.weight.original1")
    | all_of("vector", "a.parametrizations.weight.original0", "a.bias"),
    own_zoo_shapes.unit_rows: ENDS
    | all_of("hidden", "a.parametrizations.weight.original")
    | all_of("vector", "gain"),
    own_zoo_shapes.spectral_norm: ENDS | all_of("hidden", "a.parametrizations.weight.original"),
    # recurrences and state spaces
    own_zoo_shapes.gru: ENDS
    | all_of("hidden", "rnn.weight_ih_l0", "rnn.weight_hh_l0")
    | all_of("vector", "rnn.bias_ih_l0", "rnn.bias_hh_l0"),
    own_zoo_shapes.lstm_of_small_inputs: HEAD
    | all_of("scalar", "small.weight")
    | all_of("embedding", "rnn.weight_ih_l0")
    | all_of("hidden", "rnn.weight_hh_l0", "rnn.weight_ih_l1", "rnn.weight_hh_l1")
    | all_of("vector", *(f"rnn.bias_{of}_l{layer}" for of in ("ih", "hh") for layer in (0, 1))),
    own_zoo_shapes.gru_cell: ENDS
    | all_of("hidden", "cell.weight_ih", "cell.weight_hh")
    | all_of("vector", "cell.bias_ih", "cell.bias_hh", "start"),
    own_zoo_shapes.mamba: ENDS
    | hidden("inward", "select", "out")
    | biased("step")
    | all_of("vector", "norm.weight", "conv.weight", "conv.bias", "A_log", "D"),
    own_zoo_shapes.decaying_sum: ENDS | hidden("value", "gate") | all_of("vector", "mix", "decay"),
    # images
    own_zoo_shapes.conv_classifier: HEAD
    | biased("body")
    | hidden("shortcut")
    | all_of("embedding", "stem.weight")
    | all_of("vector", "norm.weight", "norm.bias")
    | all_of("scalar", "head.bias"),
    own_zoo_shapes.flattened_image: HEAD
    | hidden("body")
    | all_of("embedding", "stem.weight")
    | all_of("vector", "stem.bias")
    | all_of("scalar", "head.bias"),
    own_zoo_shapes.vision_transformer: HEAD
    | TORCHS_BLOCK
    | all_of("embedding", "patch.weight", "position")
    | all_of("vector", "patch.bias", "class_token", "norm.weight", "norm.bias")
    | all_of("scalar", "head.bias"),
    own_zoo_shapes.pooled_classifier: ENDS | biased("a") | all_of("scalar", "head.bias"),
    own_zoo_shapes.sub_pixels: biased("widen")
    | all_of("embedding", "encode.weight")
    | all_of("vector", "encode.bias")
    | all_of("readout", "decode.weight")
    | all_of("scalar", "decode.bias"),
    own_zoo_shapes.auto_encoder: hidden("code")
    | all_of("embedding", "down.weight", "decode.weight")
    | all_of("vector", "down.bias", "decode.bias")
    | all_of("readout", "up.weight")
    | all_of("scalar", "code.bias", "up.bias"),
    own_zoo_shapes.diffusion_transformer: biased("time_out", "steer", "up", "down", "last_steer")
    | all_of("embedding", "patch.weight", "time_in.weight", "label.weight")
    | all_of("vector", "patch.bias", "time_in.bias")
    | all_of("readout", "out.weight")
    | all_of("scalar", "out.bias"),
    # sets, queries and features
    own_zoo_shapes.perceiver: ENDS
    | hidden("read.out_proj", "think")
    | all_of("hidden", "read.in_proj_weight")
    | all_of("embedding", "latents")
    | all_of("vector", "norm.weight", "norm.bias"),
    own_zoo_shapes.queries_of_places: ENDS
    | hidden("query", "key")
    | all_of("embedding", "places.weight"),
    own_zoo_shapes.hashed_features: HEAD
    | hidden("a")
    | all_of("embedding", "quotient.weight", "rest.weight", "bag.weight"),
    own_zoo_shapes.features_beside_tokens: ENDS | hidden("a"),
    own_zoo_shapes.encoder_decoder: ENDS
    | hidden("encode.1", "cross.out_proj")
    | all_of("hidden", "cross.in_proj_weight")
    | all_of("vector", "encode.0.weight", "encode.0.bias"),
    own_zoo_shapes.regression: HEAD
    | biased("body.3")
    | all_of("embedding", "body.0.weight")
    | all_of("vector", "body.0.bias")
    | all_of("vector", *(f"body.{n}.{leaf}" for n in (1, 4) for leaf in ("weight", "bias")))
    | all_of("scalar", "head.bias"),
    # constants that depend on width
    own_zoo_harder.sinusoidal_positions: ENDS | hidden("up", "down"),
    own_zoo_harder.embedded_times: hidden("time.0", "time.2", "body")
    | all_of("embedding", "inward.weight")
    | all_of("readout", "outward.weight"),
    own_zoo_harder.random_features: HEAD | biased("a"),
    own_zoo_harder.rotary: ENDS | hidden("query", "key", "value", "out"),
    own_zoo_harder.retention: ENDS | hidden("qkv", "gate", "out"),
    # memory that is written in place, and recomputed
    own_zoo_harder.in_place: ENDS | hidden("layers.0", "layers.1") | all_of("vector", "shift"),
    own_zoo_harder.checkpointed: ENDS | hidden("up", "down"),
    own_zoo_harder.experts_by_dispatch: ENDS
    | hidden("router", *(f"experts.{expert}.0" for expert in range(4))),
    # weights of unusual shapes
    own_zoo_harder.transposed_layers: ENDS
    | all_of("hidden", "up", "down")
    | all_of("vector", "up_bias"),
    own_zoo_harder.matrices_of_heads: ENDS | all_of("hidden", "q", "k", "v", "o"),
    own_zoo_harder.splines: ENDS | all_of("hidden", "weights"),
    own_zoo_harder.pooling_query: ENDS | hidden("a") | all_of("hidden", "query"),
    own_zoo_harder.bidirectional: ENDS
    | all_of("hidden", "rnn.weight_ih_l0", "rnn.weight_hh_l0")
    | all_of("hidden", "rnn.weight_ih_l0_reverse", "rnn.weight_hh_l0_reverse"),
    own_zoo_harder.mamba_of_heads: ENDS
    | hidden("inward", "out")
    | all_of("vector", "conv.weight", "step_bias", "A_log", "D", "norm.weight"),
    own_zoo_harder.speedrun: ENDS
    | hidden("layers.0", "layers.1", "out")
    | all_of("embedding", "values.weight")
    | all_of("scalar", "lambdas", "shares"),
    # outputs without a matrix, and norms of scores
    own_zoo_harder.two_towers: hidden("of_user", "of_item")
    | all_of("embedding", "user.weight", "item.weight")
    | all_of("scalar", "temperature"),
    own_zoo_harder.cosine_attention: ENDS | hidden("qkv", "out") | all_of("vector", "scale"),
    # rows beside the tokens, and parts that are frozen
    own_zoo_harder.registers: ENDS | hidden("qkv", "out") | all_of("embedding", "rows"),
    own_zoo_harder.soft_prompt: all_of("embedding", "rows"),
    own_zoo_harder.only_biases: all_of("vector", "norm.bias", "up.bias", "down.bias"),
    own_zoo_harder.batch_norm: all_of("embedding", "stem.weight")
    | all_of("vector", "norm.weight", "norm.bias")
    | all_of("readout", "squeeze.weight")
    | all_of("scalar", "head.weight", "head.bias"),
    own_zoo_harder.torchs_decoder: ENDS
    | hidden("block.self_attn.out_proj", "block.multihead_attn.out_proj")
    | all_of("hidden", "block.self_attn.in_proj_weight", "block.multihead_attn.in_proj_weight")
    | hidden("block.linear1", "block.linear2")
    | all_of("vector", *(f"block.norm{number}.weight" for number in (1, 2, 3))),
    # factors of width beside the two ends
    own_zoo_harder.scaled_stream: ENDS | hidden("up", "down") | all_of("vector", "norm.weight"),
    own_zoo_harder.scaled_branch: ENDS | hidden("up", "down"),
    own_zoo_harder.scaled_tied_logits: EMBED | hidden("a"),
    # weights made of other weights, and products written as sums
    own_zoo_harder.merged_adapters: ENDS
    | hidden("base")
    | all_of("hidden", "down")
    | all_of("embedding", "up"),
    own_zoo_harder.kronecker: ENDS | all_of("scalar", "fixed") | all_of("hidden", "growing"),
    own_zoo_harder.there_and_back: ENDS | all_of("hidden", "w"),
    own_zoo_harder.mapped_experts: ENDS | all_of("hidden", "weights"),
    own_zoo_harder.additive_attention: ENDS | hidden("a") | all_of("hidden", "row"),
    own_zoo_harder.summed_readout: EMBED | hidden("a") | all_of("readout", "out"),
    own_zoo_harder.blocks_of_four: ENDS | all_of("embedding", "small") | all_of("hidden", "large"),
    own_zoo_harder.half_the_kv_heads: ENDS | hidden("q", "k", "v", "out"),
    own_zoo_harder.unused: ENDS | hidden("a") | biased("spare"),
}


@cache
def read(build: Callable[..., nn.Module], base_width: int = BASES[0]) -> Reading:
    factory = f"{build.__module__}:{build.__name__}"
    model = FactoryProtocol(factory=factory, args={}, roles={}, vocab=VOCAB)
    return read_model(model, CONTEXT, base_width)


def names_of(builds: Iterable[Callable[..., nn.Module]]) -> list[str]:
    return [build.__name__ for build in builds]


def test_the_zoo_is_large_and_every_model_is_in_the_table() -> None:
    made = {
        found
        for module in (own_zoo, own_zoo_shapes, own_zoo_harder)
        for found in vars(module).values()
        if callable(found) and getattr(found, "__annotations__", {}).get("return") == "nn.Module"
    }
    assert made == set(ROLES)
    assert len(ROLES) >= 60


@pytest.mark.parametrize(("build", "roles"), ROLES.items(), ids=names_of(ROLES))
def test_every_parameter_has_the_role_that_a_human_gives_it(
    build: Callable[..., nn.Module], roles: Mapping[str, Role]
) -> None:
    assert {p.name: p.role for p in read(build).base_plan} == roles


class Marks(NamedTuple):
    """Parameters of a model that are more than their role says."""

    in_block: frozenset[str] = frozenset()
    keeps_draw: frozenset[str] = frozenset()
    tied_readout: frozenset[str] = frozenset()


def names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# biases of torch's linear layers and convolutions are drawn, so they keep their draw as well
MARKS: dict[Callable[..., nn.Module], Marks] = {
    own_zoo.squeeze_excite: Marks(names("excite.weight"), names("squeeze.bias excite.bias")),
    own_zoo.scales_of_layers: Marks(),
    own_zoo.tied_by_module: Marks(tied_readout=names("embed.weight")),
    own_zoo.tied_by_call: Marks(tied_readout=names("wte.weight")),
    own_zoo.tied_raw: Marks(tied_readout=names("table")),
    own_zoo.lora: Marks(names("lora_b.weight")),
    own_zoo.latent_attention: Marks(names("up.weight")),
    own_zoo.factorised_embedding: Marks(names("project.weight")),
    own_zoo.slopes_of_heads: Marks(keeps_draw=names("slopes")),
    own_zoo.gains_of_heads: Marks(keeps_draw=names("sinks")),
    own_zoo.raw_positions: Marks(),
    own_zoo_shapes.growing_groups: Marks(names("mix.weight")),
    own_zoo_shapes.long_filter: Marks(keeps_draw=names("filter")),
    own_zoo_shapes.mixer: Marks(names("widen.weight"), names("channels.bias")),
    own_zoo_shapes.weight_norm: Marks(
        keeps_draw=names("a.parametrizations.weight.original0 a.bias")
    ),
    own_zoo_shapes.mamba: Marks(keeps_draw=names("A_log step.bias conv.weight conv.bias")),
    own_zoo_shapes.decaying_sum: Marks(keeps_draw=names("mix decay")),
    own_zoo_shapes.auto_encoder: Marks(
        names("decode.weight"),
        names("down.bias code.bias decode.bias"),  # one value is no draw
    ),
    own_zoo_harder.merged_adapters: Marks(names("up")),
    own_zoo_harder.blocks_of_four: Marks(names("small")),
    own_zoo_shapes.vision_transformer: Marks(
        keeps_draw=names("patch.bias head.bias block.linear1.bias block.linear2.bias")
    ),
}


@pytest.mark.parametrize(("build", "marks"), MARKS.items(), ids=names_of(MARKS))
def test_marks_beside_the_roles(build: Callable[..., nn.Module], marks: Marks) -> None:
    plan = read(build).base_plan
    assert (
        Marks(
            frozenset(p.name for p in plan if p.in_block),
            frozenset(p.name for p in plan if p.keeps_draw),
            frozenset(p.name for p in plan if p.is_tied_readout),
        )
        == marks
    )


def test_a_product_over_two_growing_axes_names_both() -> None:
    (mix,) = (p for p in read(own_zoo.bilinear).base_plan if p.name == "mix.weight")
    assert {mix.fan_in_axis, *mix.further_fan_in_axes} == {1, 2}


# exponents of width in factors of the model's own code; all other models have none
OWN_FACTORS: dict[Callable[..., nn.Module], Mapping[str, float]] = {
    own_zoo.scaled_embedding: {"embed.weight": 0.5},
    own_zoo.scaled_logits: {"head.weight": -1.0},
    own_zoo_harder.scaled_stream: {"embed.weight": 0.5},
    own_zoo_harder.scaled_branch: {"down.weight": -0.5},
}


@pytest.mark.parametrize("base_width", BASES)
@pytest.mark.parametrize("build", ROLES, ids=names_of(ROLES))
def test_powers_of_width_in_the_models_own_code_are_found_where_they_are(
    build: Callable[..., nn.Module], base_width: int
) -> None:
    plan = read(build, base_width).base_plan
    found = {p.name: p.own_multiplier for p in plan if p.own_multiplier}
    assert found == pytest.approx(OWN_FACTORS.get(build, {}))
    of_output = {p.own_output_multiplier for p in plan if p.is_tied_readout}
    assert of_output <= ({-1.0} if build is own_zoo_harder.scaled_tied_logits else {0.0})
