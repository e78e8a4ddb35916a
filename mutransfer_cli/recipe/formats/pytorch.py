"""`--to pytorch`: a Python file of parameter groups, init and multipliers in plain torch."""

from __future__ import annotations

from mutransfer_cli.recipe.formats.capability import Capability
from mutransfer_cli.recipe.formats.python_helper import (
    CLAIMED,
    INIT,
    LLAMA_PATTERNS,
    ROLES_BY_PATTERN,
    factor_table,
    group_table,
    init_table,
    own_patterns,
    pattern_table,
    rescale_init,
    schedule_note,
    table,
)
from mutransfer_cli.recipe.formats.sheet import Sheet, comments, number

CAPABILITY = Capability(
    name="pytorch",
    written_for="torch 2.9 to 2.13",
    matching="regex, each parameter exactly once",
    any_names=True,
    optimizers=frozenset({"adam", "adamw", "sgd", "muon"}),
    multipliers=True,
    attention_scale=True,
)

CLASSES: dict[str, str] = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "muon": "Muon"}

OPTIMIZERS = '''

def optimizers(model):
    """One torch optimizer for each class that the roles have."""
    by_class = {}
    for group in param_groups(model):
        if group["params"]:
            by_class.setdefault(OPTIMIZERS[group["role"]], []).append(group)
    return [optimizer(groups) for optimizer, groups in by_class.items()]
'''


def write(sheet: Sheet) -> str:
    parts = [
        comments([*sheet.header, *schedule_note(sheet)]),
        "\nimport re\n\nimport torch\n\n",
        pattern_table(_patterns(sheet)),
        group_table(sheet, _settings(sheet)),
        _optimizers(sheet),
        _multipliers(sheet),
    ]
    if sheet.patterns:
        parts += [init_table(sheet), CLAIMED, OPTIMIZERS, INIT]
    else:
        parts += [factor_table(sheet), CLAIMED, OPTIMIZERS, rescale_init(ROLES_BY_PATTERN)]
    return "".join(parts)


def _patterns(sheet: Sheet) -> dict[str, tuple[str, ...]]:
    if "all" in sheet.values:
        return {"all": (".*",)}
    return own_patterns(sheet) or {role: LLAMA_PATTERNS[role] for role in sheet.values}


def _settings(sheet: Sheet) -> dict[str, str]:
    """By role, what torch.optim's classes other than Adam's take beside rate and decay."""
    settings, more = sheet.recipe.optimizer or {}, {}
    for key, optimizer in _optimizer_names(sheet).items():
        if optimizer in ("sgd", "muon"):
            more[key] = f', "momentum": {number(settings["momentum"])}'
        if optimizer == "muon":
            more[key] += f', "adjust_lr_fn": {settings["lr_adjustment"]!r}'
    return more


def _optimizers(sheet: Sheet) -> str:
    names = _optimizer_names(sheet)
    rows = [(key, f"torch.optim.{CLASSES[names[key]]}", "") for key in sheet.values]
    return table("OPTIMIZERS", rows)


def _optimizer_names(sheet: Sheet) -> dict[str, str]:
    roles = sheet.recipe.roles
    return {
        key: roles[values.role].optimizer if values.role in roles else "adamw"
        for key, values in sheet.values.items()
    }


def _multipliers(sheet: Sheet) -> str:
    rows = [(role, number(v.multiplier), "") for role, v in sheet.values.items()]
    note = "the model's code multiplies by these what a role's weights give out"
    text = table("multipliers", rows, note)
    scale = sheet.attention_scale
    if scale is not None:
        formula = f"{scale.formula} with d_head {scale.head_size}"
        text += f"attention_scale = {number(scale.value)}  # on q.k: {formula}\n"
    return text
