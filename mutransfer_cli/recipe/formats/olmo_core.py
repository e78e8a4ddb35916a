"""`--to olmo-core`: Python for a training script, written for the names of its Llama."""

from __future__ import annotations

from collections.abc import Mapping

from mutransfer_cli.recipe.formats.capability import Capability
from mutransfer_cli.recipe.formats.python_helper import (
    ROLES_BY_NAME,
    factor_table,
    rescale_init,
    schedule_note,
    table,
)
from mutransfer_cli.recipe.formats.sheet import (
    Sheet,
    Values,
    comments,
    decay_note,
    number,
    python_values,
    ratio,
)

CAPABILITY = Capability(
    name="olmo-core",
    written_for="OLMo-core v2.5.0 to fa6c5014c (2026-06-22)",
    matching="glob, no overlap",
    folds_attention=True,
    unverified=(
        "its grouping and its schedulers were run on the names of its Llama as read; init_, which "
        "expects InitMethod.normal with its fixed std, was not run there",
    ),
)

# what no glob claims gets the config's own values; a glob that matches nothing is an error
GLOBS = {
    "embedding": ("embeddings.weight",),
    "readout": ("lm_head.w_out.weight",),
    "query": ("blocks.*.attention.w_q.weight",),
    "vector": ("blocks.*_norm.*weight", "lm_head.norm.weight"),
}

SCHEDULERS = {
    "linear": ("LinearWithWarmup", "alpha_f=0.0, "),
    "cosine": ("CosWithWarmup", "alpha_f=0.0, "),
    "constant": ("ConstantWithWarmup", ""),
    "wsd": ("WSD", ""),
}

ROLE_OF = """

def role_of(name):
    return next((role for glob, role in GLOBS.items() if fnmatch(name, glob)), "hidden")
"""


def write(sheet: Sheet) -> str:
    held = sheet.holds_for
    schedule = SCHEDULERS.get(held.schedule or "") if held else None
    named = {role: values for role, values in sheet.values.items() if role in GLOBS}
    names = sorted(["AdamWConfig", *(["OptimGroupOverride"] if named else [])])
    names += [schedule[0]] if schedule else []
    parts = [
        comments([*sheet.header, *schedule_note(sheet)]),
        "\nfrom fnmatch import fnmatch\n\nimport torch\n" if named else "\n",
        f"from olmo_core.optim import {', '.join(sorted(names))}\n\n",
        _optim(sheet, named),
    ]
    if schedule and held:
        name, floor = schedule
        if held.decay_fraction:
            floor = f"decay_fraction={number(held.decay_fraction)}, "
        parts.append(f"SCHEDULER = {name}(warmup={held.warmup}, {floor}warmup_min_lr=0.0)\n")
    if named:
        rows = [(glob, repr(role), "") for role in named for glob in GLOBS[role]]
        parts += [table("GLOBS", rows), factor_table(sheet), ROLE_OF, rescale_init(ROLES_BY_NAME)]
    return "".join(parts)


def _optim(sheet: Sheet, named: Mapping[str, Values]) -> str:
    rest = sheet.rest
    content = {"lr": rest.lr, "weight_decay": rest.weight_decay, "eps": rest.eps}
    keywords = [f"{key}={number(value)}" for key, value in content.items() if value is not None]
    if rest.betas is not None:
        keywords.append(f"betas=({', '.join(map(number, rest.betas))})")
    lines = [
        "OPTIM = AdamWConfig(",
        f"    # {sheet.rest_role}, all that no glob claims: {decay_note(rest)}",
        f"    {', '.join(keywords)},",
    ]
    if named:
        overrides = [
            line for role, values in named.items() for line in _override(sheet, role, values)
        ]
        lines += ["    group_overrides=[", *overrides, "    ],"]
    return "\n".join([*lines, ")"]) + "\n"


def _override(sheet: Sheet, role: str, values: Values) -> list[str]:
    return [
        f"        # {role}: {ratio(sheet, values)}; {decay_note(values)}",
        "        OptimGroupOverride(",
        f"            params={list(GLOBS[role])!r},",
        f"            opts={{{python_values(values)}}},",
        "        ),",
    ]
