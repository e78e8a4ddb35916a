"""Format `megatron-bridge`: a Python file that sets a ConfigContainer, with overrides by role."""

from __future__ import annotations

from mutransfer_cli.recipe.formats.capability import Format
from mutransfer_cli.recipe.formats.megatron import RUN_ON, groups_of, patterns_of
from mutransfer_cli.recipe.formats.sheet import Sheet
from mutransfer_cli.recipe.formats.template import render


def write(sheet: Sheet) -> str:
    if "all" in sheet.values:
        return render("megatron-bridge.py.jinja", sheet)
    found = {"patterns": patterns_of(sheet), "groups": groups_of(sheet)}
    return render("megatron-bridge.py.jinja", sheet, **found)


FORMAT = Format(
    name="megatron-bridge",
    written_for="Megatron Bridge 0.3.1 to main at 067f987df (2026-08-22)",
    write=write,
    attention_scale=True,
    fused_queries=True,
    unverified=(RUN_ON,),
)
