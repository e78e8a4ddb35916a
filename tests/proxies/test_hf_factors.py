"""Factors of transformers' own classes, defaults included."""

from __future__ import annotations

from typing import Any

import pytest

from mutransfer_cli.proxies.hf import with_defaults
from mutransfer_cli.spec.model import HfProtocol
from tests.proxies.test_hf import MODERN

transformers: Any = pytest.importorskip("transformers")

NEUTRAL = 8**-0.5  # MODERN has heads of 8
# logits_scaling is a property there, hidden_size / dim_model_base
MINICPM = {"scale_emb": 12, "dim_model_base": 256, "scale_depth": 1.4, "logits_scaling": 0.25}


@pytest.mark.parametrize(
    ("model_type", "fields", "factors"),
    [
        ("llama", {}, {}),
        ("llama", {"mup": True, "mup_base_width": 32}, {"mup": True, "mup_base_width": 32}),
        ("granite", {"attention_multiplier": NEUTRAL}, {}),
        ("granite", {}, {"attention_multiplier": 1.0}),
        ("falcon_h1", {}, {}),
        ("falcon_h1", {"mlp_multipliers": [0.5, 2.0]}, {"mlp_multipliers": [0.5, 2.0]}),
        ("cohere", {}, {"logit_scale": 0.0625}),
        ("minicpm3", {}, MINICPM),
        ("minicpm3", {"scale_emb": 1, "scale_depth": None, "dim_model_base": None}, {}),
        ("gemma2", {}, {"query_pre_attn_scalar": 256}),
        ("afmoe", {"mup_enabled": True}, {"mup_enabled": True}),
    ],
)
def test_factors_are_those_of_the_class(
    model_type: str, fields: dict[str, Any], factors: dict[str, Any]
) -> None:
    config = {"model_type": model_type, **MODERN, **fields}
    assert with_defaults(HfProtocol(hf=config, untie=False, roles={}, vocab=256)).own_factors == (
        factors
    )
