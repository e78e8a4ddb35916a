"""Format `transformers`: a Python file for the Trainer, written for the names of Llama."""

from __future__ import annotations

from mutransfer_cli.recipe.formats.capability import Format
from mutransfer_cli.recipe.formats.sheet import Sheet
from mutransfer_cli.recipe.formats.template import render
from mutransfer_cli.spec.own_factors import NEUTRAL

# names of transformers' Llama; each parameter matches exactly one
LLAMA_PATTERNS = {
    "embedding": (r"^model\.embed_tokens\.weight$",),
    "readout": (r"^lm_head\.weight$",),
    "vector": (r"^model\.(layers\.\d+\.(input|post_attention)_layernorm|norm)\.weight$",),
    "query": (r"^model\.layers\.\d+\.self_attn\.q_proj\.weight$",),
    "down": (r"^model\.layers\.\d+\.mlp\.down_proj\.weight$",),
    "hidden": (
        r"^model\.layers\.\d+\.self_attn\.[kvo]_proj\.weight$",
        r"^model\.layers\.\d+\.mlp\.(gate|up)_proj\.weight$",
    ),
}

# neutral values that depend on a config, as Python
BY_SIZE = {
    "mup_base_width": 'lambda c: c.mup_base_width if getattr(c, "mup", None) is False else None',
    "dim_model_base": "lambda c: c.hidden_size",
    "scale_depth": "lambda c: c.num_hidden_layers**0.5",
    "attention_multiplier": "lambda c: head_size(c) ** -0.5",
    "query_pre_attn_scalar": "lambda c: head_size(c)",
}


def patterns_of(sheet: Sheet) -> list[tuple[str, str]]:
    """Pairs of a pattern and its role: the sheet's own, or those of Llama where it has none."""
    if "all" in sheet.values:
        return [(".*", "all")]
    if sheet.patterns:
        return [(p.pattern, role) for role, found in sheet.patterns.items() for p in found]
    merged = {part: part if part in sheet.values else "hidden" for part in LLAMA_PATTERNS}
    return [(p, merged[part]) for part, found in LLAMA_PATTERNS.items() for p in found]


def write(sheet: Sheet) -> str:
    neutral = BY_SIZE | {f: repr(value) for f, value in NEUTRAL.items() if f not in BY_SIZE}
    return render("transformers.py.jinja", sheet, patterns=patterns_of(sheet), neutral=neutral)


FORMAT = Format(
    name="transformers",
    written_for="transformers 5.23, Trainer with Llama",
    write=write,
    any_names=True,
)
