"""Format `nemo-automodel`: YAML for its recipes, written for the names of its Llama."""

from __future__ import annotations

from mutransfer_cli.recipe.formats.capability import Format
from mutransfer_cli.recipe.formats.sheet import Sheet
from mutransfer_cli.recipe.formats.template import render

# The first match wins, and what no pattern claims gets the optimizer's own values; (_\w+\.)* are
# wrappers such as _checkpoint_wrapped_module.
PATTERNS = {
    "embedding": r"^model\.embed_tokens\.(_\w+\.)*weight$",
    "readout": r"^lm_head\.(_\w+\.)*weight$",
    "query": r"^model\.layers\.\d+\.(_\w+\.)*self_attn\.(_\w+\.)*q_proj\.(_\w+\.)*weight$",
    "down": r"^model\.layers\.\d+\.(_\w+\.)*mlp\.(_\w+\.)*down_proj\.(_\w+\.)*weight$",
    "vector": (
        r"^model\.(layers\.\d+\.(_\w+\.)*(input|post_attention)_layernorm|norm)\.(_\w+\.)*weight$"
    ),
}


def write(sheet: Sheet) -> str:
    """Multipliers, which the scheduler applies at every step, so that its floor keeps the ratio."""
    named = [role for role in sheet.values if role != sheet.rest_role]
    patterns = {role: _pattern(sheet, role) for role in named}
    return render("nemo-automodel.yaml.jinja", sheet, patterns=patterns)


def _pattern(sheet: Sheet, role: str) -> str:
    if not sheet.patterns:
        return PATTERNS[role]
    found = "|".join(p.pattern.strip("^$") for p in sheet.patterns[role])
    return "^(" + found.replace(r"\.", r"\.(_\w+\.)*") + ")$"


FORMAT = Format(
    name="nemo-automodel",
    written_for="NeMo Automodel main from 7c7237e5f (2026-07-14) to 36044ad3d (2026-08-22)",
    write=write,
    any_names=True,
    role_eps=False,
    init_std=False,
    unverified=(
        "its grouping and its scheduler were run on the names of its Llama as read; a training run "
        "was not",
    ),
)
