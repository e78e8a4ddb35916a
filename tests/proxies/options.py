"""Every option of the built-in decoder as a spec's `model` writes it.

Heads have size 8 and widths must be multiples of 16."""

from __future__ import annotations

from typing import Any

OPTIONS: dict[str, dict[str, Any]] = {
    "layer": {"norm": "layer"},
    "vector gains": {"gains": "vector"},
    "scalar gains": {"gains": "scalar"},
    "layer with gains": {"norm": "layer", "gains": "vector"},
    "qk_norm": {"qk_norm": True},
    "qk_norm with gains": {"qk_norm": True, "gains": "vector"},
    "zero query": {"query_init": "zero"},
    "biases": {"biases": True},
    "biases, multi-query": {"biases": True, "kv_heads": 1},
    "standard readout": {"readout_init": "standard"},
    "zero readout": {"readout_init": "zero"},
    "embedding_norm": {"embedding_norm": True, "gains": "scalar"},
    "relu": {"mlp": "relu"},
    "squared_relu": {"mlp": "squared_relu"},
    "swiglu": {"mlp": "swiglu", "mlp_ratio": "5/2"},
    "multi-query": {"kv_heads": 1, "mlp_ratio": 5},
    "grouped-query": {"kv_group": 2},
    "learned positions": {"positions": "learned"},
    "growing heads": {"head_size": None, "heads": 2, "qk_norm": True, "gains": "vector"},
    "llama": {"preset": "llama", "kv_group": 2},
}
