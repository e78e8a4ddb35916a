"""`--to nemo-automodel`: YAML for its recipes, written for the names of its Llama."""

from __future__ import annotations

import json

from mutransfer_cli.recipe.formats.capability import Capability
from mutransfer_cli.recipe.formats.python_helper import schedule_note
from mutransfer_cli.recipe.formats.sheet import Sheet, Values, comments, decay_note, number, ratio

CAPABILITY = Capability(
    name="nemo-automodel",
    written_for="NeMo Automodel main from 7c7237e5f (2026-07-14) to 36044ad3d (2026-08-22)",
    matching="regex, first match wins",
    any_names=True,
    role_eps=False,
    init_std=False,
    unverified=(
        "its grouping and its scheduler were run on the names of its Llama as read; a training run "
        "was not",
    ),
)

# what none claims gets the optimizer's own values; (_\w+\.)* are wrappers such as
# _checkpoint_wrapped_module
PATTERNS = {
    "embedding": r"^model\.embed_tokens\.(_\w+\.)*weight$",
    "readout": r"^lm_head\.(_\w+\.)*weight$",
    "vector": (
        r"^model\.(layers\.\d+\.(_\w+\.)*(input|post_attention)_layernorm|norm)\.(_\w+\.)*weight$"
    ),
}


def write(sheet: Sheet) -> str:
    rest = sheet.rest
    decay = [] if rest.weight_decay is None else [f"  weight_decay: {number(rest.weight_decay)}"]
    betas = [f"  betas: [{', '.join(map(number, rest.betas))}]"] if rest.betas else []
    eps = [] if rest.eps is None else [f"  eps: {number(rest.eps)}"]
    named = {role: values for role, values in sheet.values.items() if role != sheet.rest_role}
    overrides = [line for role, v in named.items() for line in _override(sheet, role, v)]
    lines = [
        "optimizer:",
        "  _target_: torch.optim.AdamW",
        f"  # {sheet.rest_role}, all that no pattern claims: {decay_note(rest)}",
        f"  lr: {number(rest.lr)}",
        *decay,
        *betas,
        *eps,
        *(["  param_group_overrides:"] if overrides else []),
        *overrides,
        *_scheduler(sheet),
    ]
    return comments([*sheet.header, *schedule_note(sheet)]) + "\n" + "\n".join(lines) + "\n"


def _override(sheet: Sheet, role: str, values: Values) -> list[str]:
    """Multipliers, which the scheduler applies at every step: the floor keeps the ratio."""
    rest = sheet.rest
    wd_mult = (values.weight_decay or 0.0) / rest.weight_decay if rest.weight_decay else 0.0
    return [
        f"  # {role}: lr {values.lr:.6g} = {ratio(sheet, values)}; {decay_note(values)}",
        f"  - pattern: {json.dumps(_pattern(sheet, role))}",
        f"    lr_mult: {number(values.lr / rest.lr)}",
        f"    wd_mult: {number(wd_mult)}",
    ]


def _pattern(sheet: Sheet, role: str) -> str:
    if not sheet.patterns:
        return PATTERNS[role]
    found = "|".join(p.pattern.strip("^$") for p in sheet.patterns[role])
    return "^(" + found.replace(r"\.", r"\.(_\w+\.)*") + ")$"


def _scheduler(sheet: Sheet) -> list[str]:
    """Its own defaults would begin at a tenth and end at a hundredth of the rate."""
    held = sheet.holds_for
    if held is None or held.schedule is None:
        return []
    wsd = [f"  wsd_decay_steps: {held.decay_steps}", "  lr_wsd_decay_style: linear"]
    return [
        "lr_scheduler:",
        f"  lr_decay_style: {'WSD' if held.decay_steps else held.schedule}",
        *(wsd if held.decay_steps else []),
        f"  lr_warmup_steps: {held.warmup}",
        "  init_lr: 0.0",
        "  min_lr: 0.0",
    ]
