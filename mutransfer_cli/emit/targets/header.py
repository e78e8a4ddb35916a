"""What stands at the top of every emitted file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mutransfer_cli import __version__
from mutransfer_cli.emit.targets.capability import Capability
from mutransfer_cli.emit.targets.sheet import Sheet
from mutransfer_cli.files.recipe import Recipe
from mutransfer_cli.files.yaml_io import content_hash


def recipe_hash(recipe: Recipe) -> str:
    return content_hash(recipe.model_dump(mode="json", by_alias=True))


def has_names(recipe: Recipe) -> bool:
    return any(role.parameters for role in recipe.roles.values())


def header_of(
    capability: Capability,
    recipe: Recipe,
    sheet: Sheet,
    dropped: Sequence[str],
    folded: bool,
    scaled_there: bool,
) -> Iterator[str]:
    """
    Args:
        recipe: as `--to yaml` writes it; the sheet's may be folded, and by role.
        scaled_there: the target applies the rule to base values.
    """
    yield f"mutransfer {__version__}, recipe {recipe_hash(recipe)} for {capability.name}"
    yield f"written for {capability.written_for}"
    for fact in capability.unverified:
        yield f"not verified: {fact}"
    if capability.unverified and recipe.holds_for and recipe.holds_for.schedule == "wsd":
        yield "not verified: its wsd schedule was read and not run"
    scope = f"{recipe.parameterization}, base width {recipe.base_width}"
    if recipe.scope == "global":
        scope = "one learning rate for all parameters"
    kind = "BASE, scaled by the target," if scaled_there else "absolute,"
    yield f"values are {kind} for width {recipe.width} ({scope})"
    lr = recipe.base_lr
    if lr.low is not None and lr.high is not None:
        yield (
            f"base learning rate {lr.value:.3g}, {100 * (lr.level or 0):g} % interval {lr.low:.3g} "
            f"to {lr.high:.3g}"
        )
    if capability.name == "pytorch" and not has_names(recipe) and recipe.scope == "per_role":
        yield "the recipe names no parameters: written for those of transformers' Llama"
    if sheet.optimizer is None:
        yield "the optimizer of the runs is not known; AdamW is taken"
    decay = recipe.base_weight_decay
    if decay is not None and decay.value and decay.convention is None:
        yield "the weight decay's convention is not known; lr-coupled is taken"
    if folded:
        yield (
            "folded: multipliers are moved into init, learning rate, weight decay and eps; the "
            "model needs none"
        )
    if sheet.folds_attention:
        yield (
            "query: the attention scale over the target's 1/sqrt(d_head) is moved into these "
            "matrices, which must lie apart from those of keys and values; exact without norms of "
            "queries and keys"
        )
    if "vector" in sheet.values and "vector" not in recipe.roles:
        yield "vector: by the rule alone; the proxies had no such parameters"
    for item in dropped:
        yield f"DROPPED, set it by hand: {item}"
    if recipe.holds_for is not None:
        held = recipe.holds_for.model_dump(exclude_none=True)
        held |= held.pop("options", {})
        yield "holds for " + ", ".join(f"{key} {value}" for key, value in held.items())
    for warning in sheet.recipe.warnings:
        yield f"warning: {warning}"
