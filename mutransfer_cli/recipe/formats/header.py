"""The comments at the top of every emitted file: its origin, its scope, what it lacks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mutransfer_cli import __version__
from mutransfer_cli.recipe.formats.capability import Format
from mutransfer_cli.recipe.formats.sheet import Sheet
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.spec.yaml_io import content_hash
from mutransfer_cli.words import percent, rate

FOLDED = (
    "folded: multipliers are moved into init, learning rate, weight decay and eps; the model needs "
    "none"
)
FOLDED_ATTENTION = (
    "the attention scale {formula} over the model's own is moved into the query matrices; the "
    "model keeps its own"
)


def header_of(
    fmt: Format,
    recipe: Recipe,
    sheet: Sheet,
    dropped: Sequence[str],
    folded: bool,
) -> Iterator[str]:
    """List the sentences that become the comments at the top of the file.

    Args:
        recipe: as format yaml writes it; that of the sheet may be folded, and by role.
        dropped: what the target cannot hold.
    """
    yield f"mutransfer {__version__}, recipe {_hash(recipe)} for {fmt.name}"
    yield f"written for {fmt.written_for}"
    for fact in fmt.unverified:
        yield f"not verified: {fact}"
    if fmt.unverified and recipe.holds_for and recipe.holds_for.schedule == "wsd":
        yield "not verified: its wsd schedule was read and not run"
    yield from _values(recipe)
    if fmt.proxy_names and not sheet.patterns and recipe.scope == "per_role":
        yield "the recipe names no parameters: written for those of transformers' Llama"
    if sheet.optimizer is None:
        yield "the optimizer of the runs is not known; AdamW is taken"
    decay = recipe.base_weight_decay
    if decay is not None and decay.value and decay.convention is None:
        yield "the weight decay's convention is not known; lr-coupled is taken"
    if folded:
        yield FOLDED
    scale = sheet.attention_scale
    if scale is not None and scale.folded:
        yield FOLDED_ATTENTION.format(formula=scale.formula)
    if "vector" in sheet.values and "vector" not in recipe.roles:
        yield "vector: by the rule alone; the proxies had no such parameters"
    for item in dropped:
        yield f"DROPPED, set it by hand: {item}"
    if recipe.holds_for is not None:
        facts = recipe.holds_for.model_dump(exclude_none=True)
        facts |= facts.pop("options", {})
        yield "holds for " + ", ".join(f"{key} {value}" for key, value in facts.items())
    for warning in sheet.recipe.warnings:
        yield f"warning: {warning}"
    yield schedule_note(sheet)


def _values(recipe: Recipe) -> Iterator[str]:
    scope = f"{recipe.parameterization}, base width {recipe.base_width}"
    if recipe.scope == "global":
        scope = "one learning rate for all parameters"
    yield f"values are absolute, for width {recipe.width} ({scope})"
    lr = recipe.base_lr
    if lr.low is not None and lr.high is not None:
        interval = f"{percent(lr.level or 0)} interval {rate(lr.low)} to {rate(lr.high)}"
        yield f"base learning rate {rate(lr.value)}, {interval}"


def schedule_note(sheet: Sheet) -> str:
    """State schedule and clipping of the fit in words: keys of a target may not say it all."""
    held = sheet.holds_for
    if held is None or held.schedule is None:
        return "schedule: not known; use that of your runs, with a floor as a ratio, not a rate"
    end = "held constant" if held.schedule == "constant" else f"{held.schedule} decay to zero"
    if held.decay_steps:
        last = f"in the last {held.decay_steps} ({held.decay_fraction:g} of all)"
        end = f"held constant, {last} linear decay to zero"
    clip = f"gradients clipped at norm {held.clip:g}" if held.clip else "no gradient clipping known"
    return f"schedule of the fit: warm-up {held.warmup} of {held.steps} steps, {end}; {clip}"


def _hash(recipe: Recipe) -> str:
    return content_hash(recipe.model_dump(mode="json", by_alias=True))
