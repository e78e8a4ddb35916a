"""Values of the fields by which models of transformers scale themselves."""

from __future__ import annotations

from typing import Any

import pytest

from mutransfer_cli.spec.model import HfProtocol

LLAMA = {"hidden_size": 64, "num_attention_heads": 8, "num_hidden_layers": 4}


def factors(**fields: Any) -> dict[str, Any]:
    config = {"model_type": "llama", **LLAMA, **fields}
    return HfProtocol(hf=config, untie=False, roles={}, vocab=7).own_factors


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"embedding_multiplier": 1, "residual_multiplier": 1.0, "logits_scaling": 1},
        {"attention_multiplier": 0.3536, "query_pre_attn_scalar": 8},
        {"head_dim": 16, "attention_multiplier": 0.25, "query_pre_attn_scalar": 16},
        {"mlp_multipliers": [1, 1], "ssm_multipliers": [1.0] * 5},
        {"scale_emb": 1, "scale_depth": 2, "dim_model_base": 64, "logit_scale": None},
        {"mup": False, "mup_base_width": 256, "scale_embedding": False},
    ],
)
def test_neutral_values(fields: dict[str, Any]) -> None:
    assert factors(**fields) == {}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("embedding_multiplier", 12), ("residual_multiplier", 0.22), ("logits_scaling", 8)],
        *[("attention_multiplier", 0.125), ("attention_multiplier", 1), ("logit_scale", 0.0625)],
        *[("query_pre_attn_scalar", 256), ("key_multiplier", 0.5), ("lm_head_multiplier", 0.1)],
        *[("mlp_multipliers", [1.0, 0.5]), ("ssm_multipliers", [1.0, 1.0, 1.0, 1.0, 0.5])],
        *[("scale_emb", 12), ("scale_depth", 1.4), ("dim_model_base", 256), ("mup", True)],
        *[("use_mup", True), ("mup_enabled", True), ("mup_base_width", 64)],
        *[("scale_embedding", True), ("logit_scale", "inv_sqrt_d_model")],
    ],
)
def test_other_values_are_factors(field: str, value: Any) -> None:
    assert factors(**{field: value}) == {field: value}


def test_a_value_whose_neutral_one_is_not_known_is_a_factor() -> None:
    sizeless = HfProtocol(
        hf={"model_type": "x", "attention_multiplier": 0.5}, untie=False, roles={}, vocab=7
    )
    assert sizeless.own_factors == {"attention_multiplier": 0.5}
