"""What a training framework can hold of a recipe, and what would be lost in it.

MERGED:
What stands at the top of every emitted file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from mutransfer_cli import __version__
from mutransfer_cli.errors import NotExpressible
from mutransfer_cli.optim.listed import OptimizerName
from mutransfer_cli.recipe.formats.sheet import Sheet
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.spec.yaml_io import content_hash

Matching = Literal[
    "regex, each parameter exactly once",
    "regex, first match wins",
    "glob, no overlap",
    "predicates, merged",
]

ADAM: frozenset[OptimizerName] = frozenset({"adam", "adamw"})


@dataclass(frozen=True)
class Capability:
    """
    Attributes:
        written_for: the versions or commits whose source was read.
        matching: how parameters are found, and what happens where two patterns match.
        any_names: whether a model of any names is written for, or the target's own Llama alone.
        multipliers: of the forward pass; where not, they are folded into the other values.
        folds_attention: whether an attention scale can be moved into its query matrices.
        unverified: what was neither run nor read.
    """

    name: str
    written_for: str
    matching: Matching
    any_names: bool = False
    optimizers: frozenset[OptimizerName] = ADAM
    role_lr: bool = True
    role_weight_decay: bool = True
    role_eps: bool = True
    betas: bool = True
    init_std: bool = True
    multipliers: bool = False
    attention_scale: bool = False
    folds_attention: bool = False
    schedule_keeps_ratios: bool = True
    unverified: tuple[str, ...] = ()


def refuse_optimizer(capability: Capability, sheet: Sheet) -> None:
    """
    Raises:
        NotExpressible: nothing is left of a recipe without its optimizer.
    """
    name, decayed = sheet.optimizer, any(v.weight_decay for v in sheet.values.values())
    if name is not None and name not in capability.optimizers:
        held = ", ".join(sorted(capability.optimizers))
        raise NotExpressible(
            f"--to {capability.name}: optimizer {name} cannot be written there (it holds {held}); "
            "use --to yaml"
        )
    if name == "sgd" and decayed:
        raise NotExpressible(
            f"--to {capability.name}: torch.optim.SGD's weight decay passes through the momentum, "
            "the recipe's does not; use --to yaml, or sweep sgd without weight decay"
        )


def losses(capability: Capability, sheet: Sheet, unfolded: Sheet) -> Iterator[str]:
    """What the recipe has and the target cannot hold; defaults of the target are no loss.

    Args:
        unfolded: where eps differs by role only in the folded values, the folding warns of it.
    """
    held, by_role = capability, sheet.by_role
    if not held.role_lr and len(set(by_role("lr").values())) > 1:
        yield f"learning rates by role ({_listed(by_role('lr'))})"
    if not held.role_weight_decay and len(set(by_role("weight_decay").values())) > 1:
        yield f"weight decay by role ({_listed(by_role('weight_decay'))})"
    if not held.role_eps and len(set(unfolded.by_role("eps").values())) > 1:
        yield f"eps by role ({_listed(by_role('eps'))})"
    if not held.betas and sheet.rest.betas is not None:
        yield f"betas {sheet.rest.betas}"
    if not held.init_std and set(by_role("init").values()) != {1}:
        yield f"init std by role (times that of the base model: {_listed(by_role('init'))})"
    if not held.multipliers and set(by_role("multiplier").values()) != {1}:
        yield f"multipliers ({_listed(by_role('multiplier'))})"
    if not held.schedule_keeps_ratios and len(set(by_role("lr").values())) > 1:
        yield "ratios between learning rates while the schedule runs"
    scale = sheet.unusual_scale
    if not held.attention_scale and scale is not None:
        yield f"attention scale {scale.formula} (the target's Llama has 1/sqrt(d_head))"


def _listed(by_role: dict[str, float]) -> str:
    return ", ".join(f"{role} {value:.4g}" for role, value in by_role.items())


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
