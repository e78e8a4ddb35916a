"""Factors that a Hugging Face model takes from its config and applies by itself.

At their neutral values it is the plain model. Names are those of transformers 5.23 and of its pull
request 45848 (`mup`, `mup_base_width`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# neutral values that depend on no size of the model
NEUTRAL: dict[str, Any] = {
    # Granite, HyperCLOVA X, Falcon-H1
    **dict.fromkeys(("embedding_multiplier", "residual_multiplier", "logits_scaling"), 1.0),
    **dict.fromkeys(("lm_head_multiplier", "key_multiplier"), 1.0),
    **dict.fromkeys(("attention_in_multiplier", "attention_out_multiplier"), 1.0),
    **dict.fromkeys(("ssm_in_multiplier", "ssm_out_multiplier"), 1.0),
    "mlp_multipliers": [1.0, 1.0],
    "ssm_multipliers": [1.0, 1.0, 1.0, 1.0, 1.0],
    # Cohere, MiniCPM, Inkling, Muse, HRM, MiMo
    **dict.fromkeys(("logit_scale", "scale_emb", "logits_mup_width_multiplier"), 1.0),
    **dict.fromkeys(("output_multiplier", "embedding_scale", "attention_value_scale"), 1.0),
    **dict.fromkeys(("mup", "use_mup", "mup_enabled"), False),
    **dict.fromkeys(("scale_embedding", "rescale_embeddings"), False),
    "mup_base_width": None,
}
# fields under which factors, or rates, of a model's own code depend on its width
BY_WIDTH = (
    *("mup", "use_mup", "mup_enabled", "mup_base_width"),
    *("dim_model_base", "scale_embedding", "rescale_embeddings"),
)
ROUNDED = 1e-3  # configs hold factors with few digits


def neutral_values(width: int | None, depth: int | None, head_size: int | None) -> dict[str, Any]:
    """The neutral value of every field; None where a size on which it depends is not known."""
    return NEUTRAL | {
        "dim_model_base": width,
        "scale_depth": None if depth is None else math.sqrt(depth),
        "attention_multiplier": None if head_size is None else head_size**-0.5,
        "query_pre_attn_scalar": head_size,
    }


def factors_of(config: Mapping[str, Any], neutral: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a config that have another value than the neutral one."""
    found = {field: config[field] for field in neutral if config.get(field) is not None}
    if config.get("mup") is False:
        found.pop("mup_base_width", None)
    return {field: value for field, value in found.items() if not _same(value, neutral[field])}


def _same(value: Any, neutral: Any) -> bool:
    if isinstance(value, float) and neutral is not None:
        return math.isclose(value, neutral, rel_tol=ROUNDED)
    return bool(value == neutral)
