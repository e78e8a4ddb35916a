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


CONSTANT = (
    "lr_scheduler is there, and constant, as the schedule is not known: set the one of your runs, "
    "and keep the section, because nothing but the scheduler applies lr_mult and wd_mult"
)
UNTIED = (
    "for a config with tie_word_embeddings: false; a pattern without a parameter only warns there"
)


def write(sheet: Sheet) -> str:
    """Multipliers, which the scheduler applies at every step, so that its floor keeps the ratio."""
    named = [role for role in sheet.values if role != sheet.rest_role]
    schedule = sheet.holds_for.schedule if sheet.holds_for else None
    notes = (UNTIED,) if named and not sheet.patterns else ()
    return render(
        "nemo-automodel.yaml.jinja",
        sheet,
        patterns={role: _pattern(sheet, role) for role in named},
        schedule=schedule or "constant",
        notes=notes if schedule else (*notes, CONSTANT),
    )


def _pattern(sheet: Sheet, role: str) -> str:
    if not sheet.patterns:
        return PATTERNS[role]
    found = "|".join(p.pattern.strip("^$") for p in sheet.patterns[role])
    return "^(" + found.replace(r"\.", r"\.(_\w+\.)*") + ")$"


FORMAT = Format(
    name="nemo-automodel",
    written_for="NeMo Automodel from main at 36044ad3d (2026-08-22) to 0.7.0",
    write=write,
    suffix=".yaml",
    any_names=True,
    role_eps=False,
    init_std=False,
    unverified=("a training run by its recipes, sharded models among them",),
)
