"""Format `pytorch`: a Python file of parameter groups, init and multipliers in plain torch."""

from __future__ import annotations

from mutransfer_cli.recipe.formats.capability import Format
from mutransfer_cli.recipe.formats.sheet import Sheet, number
from mutransfer_cli.recipe.formats.template import render
from mutransfer_cli.recipe.formats.transformers import patterns_of

CLASSES = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "muon": "Muon"}


def write(sheet: Sheet) -> str:
    roles, settings = sheet.recipe.roles, sheet.recipe.optimizer or {}
    names: dict[str, str] = {
        key: roles[values.role].optimizer if values.role in roles else "adamw"
        for key, values in sheet.values.items()
    }
    more: dict[str, dict[str, str]] = {key: {} for key in names}
    for key, optimizer in names.items():
        if optimizer in ("sgd", "muon"):
            more[key]["momentum"] = number(settings["momentum"])
        if optimizer == "muon":
            more[key]["adjust_lr_fn"] = repr(settings["lr_adjustment"])
    classes = {key: CLASSES[name] for key, name in names.items()}
    patterns = patterns_of(sheet)
    return render("pytorch.py.jinja", sheet, patterns=patterns, classes=classes, more=more)


FORMAT = Format(
    name="pytorch",
    written_for="torch 2.9 to 2.13",
    write=write,
    any_names=True,
    proxy_names=True,
    optimizers=frozenset({"adam", "adamw", "sgd", "muon"}),
    multipliers=True,
    attention_scale=True,
)
