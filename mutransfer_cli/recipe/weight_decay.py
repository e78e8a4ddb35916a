"""Sentences about weight decay: how a recipe scales it, and why one does not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import get_args

from mutransfer_cli.recipe.quantities import WeightDecay
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.rules.weight_decay import DecayRuleName
from mutransfer_cli.words import rate

UNDECLARED = "the protocol does not say how it changes with width, so no rule scales it"


def undeclared(value: float) -> str:
    """The warning for a weight decay of own results that no rule scales."""
    return (
        f"weight decay {value:g} is not scaled with width, because the protocol does not say how "
        "the runs scaled it: name the rule (parameterization.weight_decay), and say whether the "
        "values given are base values or what the optimizer got (weight_decay_values: base or "
        "applied)"
    )


def scalings(recipe: Recipe) -> tuple[str, ...]:
    """One sentence for each way in which the recipe changes weight decay, and who has it.

    Nobody is named where all that decay have the same.
    """
    found: dict[str, list[str]] = {}
    for name, decay in _decays(recipe):
        found.setdefault(_scaling(decay, recipe), []).append(name)
    several = len(found) > 1
    return tuple(
        f"weight decay of {', '.join(names)} {how}" if several else f"weight decay {how}"
        for how, names in found.items()
        if how
    )


def _decays(recipe: Recipe) -> Iterator[tuple[str, WeightDecay]]:
    """Weight decays that were scaled, by role, and by pattern where those differ from the role's.

    Recipes of older versions do not say how they scaled them.
    """
    for role, values in recipe.roles.items():
        own = ((f"{p.pattern} ({role})", p.own) for p in values.parameters if p.own)
        for name, of_it in ((role, values), *own):
            if of_it.weight_decay.factor is not None:
                yield name, of_it.weight_decay


def _scaling(decay: WeightDecay, recipe: Recipe) -> str:
    """`0.100 -> 3.20: x32 by linear_width from base width 256`; empty where it stays."""
    assert decay.factor is not None, "callers leave out what was not scaled"
    if math.isclose(decay.factor, 1):
        return ""
    convention = " (independent)" if decay.convention == "independent" else ""
    folded = recipe.rule is not None and recipe.rule.folded
    by = "folding alone" if decay.rule is None else _rule(decay.rule)
    by += ", folded," if folded and decay.rule is not None else ""
    return (
        f"{rate(decay.base)} -> {rate(decay.value)}{convention}: x{decay.factor:.3g} by {by} from "
        f"base width {recipe.base_width}"
    )


def _rule(rule: str) -> str:
    return rule if rule in get_args(DecayRuleName) else f"width^{rule}"
