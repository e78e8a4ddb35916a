"""`--to pytorch`: a Python file of parameter groups, init and multipliers in plain torch."""

from __future__ import annotations

from mutransfer_cli.emit.targets.capability import Capability
from mutransfer_cli.emit.targets.header import has_names
from mutransfer_cli.emit.targets.python_helper import (
    CLAIMED,
    LLAMA_PATTERNS,
    ROLES_BY_PATTERN,
    factor_table,
    group_table,
    pattern_table,
    rescale_init,
    schedule_note,
    table,
)
from mutransfer_cli.emit.targets.sheet import Sheet
from mutransfer_cli.emit.targets.text import comments, number

CAPABILITY = Capability(
    name="pytorch",
    written_for="torch 2.9 to 2.13",
    matching="regex, each parameter exactly once",
    optimizers=frozenset({"adam", "adamw", "sgd", "muon"}),
    multipliers=True,
    attention_scale=True,
)

CLASSES: dict[str, str] = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "muon": "Muon"}

INIT = '''

def init_(model):
    """The proxies' normal init, at this width."""
    found = claimed(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_({mean}, INIT_STD[found[name]])
'''

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
    named = has_names(sheet.recipe)
    parts = [
        comments([*sheet.header, *schedule_note(sheet)]),
        "\nimport re\n\nimport torch\n\n",
        pattern_table(_patterns(sheet, named)),
        group_table(sheet, _settings(sheet)),
        _optimizers(sheet),
        _multipliers(sheet),
    ]
    if named:
        means = _means(sheet)
        mean = "INIT_MEAN.get(found[name], 0.0)" if means else "0.0"
        parts += [_stds(sheet), means, CLAIMED, OPTIMIZERS, INIT.format(mean=mean)]
    else:
        parts += [factor_table(sheet), CLAIMED, OPTIMIZERS, rescale_init(ROLES_BY_PATTERN)]
    return "".join(parts)


def _patterns(sheet: Sheet, named: bool) -> dict[str, tuple[str, ...]]:
    if "all" in sheet.values:
        return {"all": (".*",)}
    if not named:
        return {role: LLAMA_PATTERNS[role] for role in sheet.values}
    roles = sheet.recipe.roles.items()
    return {role: tuple(p.pattern for p in found.parameters) for role, found in roles}


def _settings(sheet: Sheet) -> dict[str, str]:
    """By role, what torch.optim's classes other than Adam's take beside rate and decay."""
    settings, more = sheet.recipe.optimizer or {}, {}
    for role, found in sheet.recipe.roles.items():
        if found.optimizer in ("sgd", "muon"):
            more[str(role)] = f', "momentum": {number(settings["momentum"])}'
        if found.optimizer == "muon":
            more[str(role)] += f', "adjust_lr_fn": {settings["lr_adjustment"]!r}'
    return more


def _optimizers(sheet: Sheet) -> str:
    classes = {str(role): CLASSES[r.optimizer] for role, r in sheet.recipe.roles.items()}
    rows = [(role, f"torch.optim.{classes.get(role, 'AdamW')}", "") for role in sheet.values]
    return table("OPTIMIZERS", rows)


def _multipliers(sheet: Sheet) -> str:
    rows = [(role, number(v.multiplier), "") for role, v in sheet.values.items()]
    note = "the model's code multiplies by these what a role's weights give out"
    text = table("multipliers", rows, note)
    scale = sheet.attention_scale
    if scale is not None:
        formula = f"{scale.formula} with d_head {scale.head_size}"
        text += f"attention_scale = {number(scale.value)}  # on q.k: {formula}\n"
    return text


def _means(sheet: Sheet) -> str:
    """Of those that are not drawn around 0: gains start at 1."""
    rows = [
        (parameter.pattern, number(parameter.init_mean), "")
        for role in sheet.recipe.roles.values()
        for parameter in role.parameters
        if parameter.init_mean
    ]
    return table("INIT_MEAN", rows) if rows else ""


def _stds(sheet: Sheet) -> str:
    rows = [
        (parameter.pattern, number(parameter.init_std.value), "")
        for role in sheet.recipe.roles.values()
        for parameter in role.parameters
    ]
    return table("INIT_STD", rows)
