"""The recipe for people: which value to use, what each role gets, and what follows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mutransfer_cli.cli.console import note, tabulate, warn
from mutransfer_cli.cli.saving import print_next
from mutransfer_cli.words import as_sentence, rate

if TYPE_CHECKING:
    from mutransfer_cli.recipe.formats.dispatch import Emitted
    from mutransfer_cli.recipe.quantities import Quantity
    from mutransfer_cli.recipe.types import ParameterPattern, Recipe

Cell = tuple[str, str]  # a value and its status


def print_recipe(recipe: Recipe) -> None:
    """Print the forecast, what each role gets, how weight decay was scaled, and warnings."""
    from mutransfer_cli.recipe.weight_decay import scalings

    for forecast in recipe.forecast.values():
        note(as_sentence(forecast.sentence), bold=True)
    title = "what all parameters get"
    if recipe.scope == "per_role":
        title = (
            f"what each role gets: the base values, scaled by {recipe.parameterization} from width "
            f"{recipe.base_width} to {recipe.width}"
        )
    tabulate(_rows(_columns(recipe)), title, left=1)
    scale = recipe.attention_scale
    if scale is not None and scale.in_forward_pass:
        note(f"attention scale {scale.formula} = {rate(scale.value)}: the model has to apply it")
    for sentence in scalings(recipe):
        note(sentence)
    if recipe.warnings:
        note("")
    for warning in recipe.warnings:
        warn(warning)


def _columns(recipe: Recipe) -> dict[str, list[Cell]]:
    """The columns of the table by heading; those that say nothing are left out."""
    if recipe.scope == "global":
        decay = recipe.base_weight_decay
        known = ("not known", "") if decay is None else _cell(decay)
        return {"role": [("all", "")], "lr": [_cell(recipe.base_lr)], "decay": [known]}
    groups = recipe.groups()
    values = [group.own or recipe.roles[group.role] for group in groups.values()]
    optimizers = [recipe.roles[group.role].optimizer for group in groups.values()]
    columns = {
        "role": [(name, "") for name in groups],
        "optimizer": [(name, "") for name in optimizers],
        "lr": [_cell(one.lr) for one in values],
        "decay": [_cell(one.weight_decay) for one in values],
        "init std": [_init(group.patterns) for group in groups.values()],
        "multiplier": [_cell(one.multiplier) for one in values],
        "eps": [("", "") if one.eps is None else _cell(one.eps) for one in values],
    }
    if len(set(optimizers)) == 1:
        del columns["optimizer"]
    if all(one.multiplier.value == 1 for one in values):
        del columns["multiplier"]
    if len({one.eps.value for one in values if one.eps}) < 2:
        del columns["eps"]
    if not any(text for text, _ in columns["init std"]):
        del columns["init std"]
    return columns


def _cell(quantity: Quantity) -> Cell:
    return rate(quantity.value), quantity.status


def _init(patterns: Iterable[ParameterPattern]) -> Cell:
    """The init std of several parameters: least and largest."""
    known = [pattern.init_std for pattern in patterns if pattern.init_std is not None]
    if not known:
        return "as drawn" if list(patterns) else "", ""
    values = sorted({rate(one.value): one.value for one in known}.items(), key=lambda item: item[1])
    least, largest = values[0][0], values[-1][0]
    text = least if least == largest else f"{least} to {largest}"
    return text, "/".join(sorted({one.status for one in known}))


def _rows(columns: dict[str, list[Cell]]) -> list[list[str]]:
    """The table with a last row of statuses, which stand beside the values where they differ."""
    found = []
    for heading, cells in columns.items():
        statuses = {status for _, status in cells if status}
        texts = [text for text, _ in cells]
        if len(statuses) > 1:
            texts = [f"{text} ({status})" if status else text for text, status in cells]
        last = "status" if heading == "role" else statuses.pop() if len(statuses) == 1 else ""
        found.append([heading, *texts, last])
    return [list(row) for row in zip(*found, strict=True)]


def print_next_of_recipe(emitted: Emitted, saved: Path, to: str, model: str | None) -> None:
    """Say how the recipe is applied, and print the command that checks it."""
    if to not in ("yaml", "json"):
        note("next: the comments at the top of the file say how it is used")
        return
    note("next, in your trainer (mutransfer docs python):")
    note(f'  load_recipe("{saved}")')
    if emitted.recipe.scope == "per_role":
        target = model or "my_package.models:build"
        print_next("to check it against your model", "check", str(saved), "--model", target)
