"""A recipe as format writers need it: values by role, and text for numbers and comments."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from mutransfer_cli.recipe.types import (
    AttentionScaleValue,
    HoldsFor,
    OwnValues,
    ParameterPattern,
    Recipe,
    RoleRecipe,
)
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.rules.plan import Values as Values

STOCK_ROLES: tuple[Role, ...] = ("embedding", "readout", "vector", "hidden")  # hidden: all others

Key = Literal["lr", "weight_decay", "eps", "init", "multiplier"]


@dataclass(frozen=True, kw_only=True)
class RoleValues(Values):
    """Values of a role, or of those parameters of it that have values of their own."""

    role: Role | None = None
    """None where all parameters share one rate."""
    init: float = 1.0
    """Init std over that of the base model."""


@dataclass(frozen=True)
class Sheet:
    """A recipe as a format writer needs it."""

    recipe: Recipe
    values: dict[str, RoleValues]
    """By role (`hidden_2` and so on for parameters of it with values of their own); the last is for
    all parameters that no other claims. Under one global rate there is `all` alone."""
    patterns: Mapping[str, tuple[ParameterPattern, ...]] = field(default_factory=dict)
    """Under the same keys; empty where no names are known."""
    folds_attention: bool = False
    """Whether the attention scale is moved into the query matrices."""
    header: tuple[str, ...] = ()
    """Sentences for the top of the file."""

    @property
    def rest(self) -> RoleValues:
        return self.values[self.rest_role]

    @property
    def rest_role(self) -> str:
        return list(self.values)[-1]

    @property
    def optimizer(self) -> str | None:
        return self.recipe.optimizer["name"] if self.recipe.optimizer else None

    @property
    def attention_scale(self) -> AttentionScaleValue | None:
        return self.recipe.attention_scale

    @property
    def unusual_scale(self) -> AttentionScaleValue | None:
        """The attention scale, unless it is what every target here has by itself."""
        scale = None if self.folds_attention else self.attention_scale
        return None if scale is None or scale.formula == "1/sqrt(d_head)" else scale

    @property
    def holds_for(self) -> HoldsFor | None:
        return self.recipe.holds_for

    @property
    def width_mult(self) -> float:
        return self.recipe.width / (self.recipe.base_width or self.recipe.width)

    def by_role(self, key: Key) -> dict[str, float]:
        """A value by role, for every role that has it."""
        found = {role: getattr(values, key) for role, values in self.values.items()}
        return {role: value for role, value in found.items() if value is not None}


def sheet_of(recipe: Recipe, roles: tuple[Role, ...] | None = None) -> Sheet:
    """The sheet of a recipe.

    Args:
        roles: roles of the target's model, its catch-all last; by default the recipe's own, hidden
            last.
    """
    if recipe.scope == "global":
        return Sheet(recipe, {"all": RoleValues(**vars(recipe.base_values()))})
    found = recipe.roles
    if roles is not None:
        return Sheet(recipe, {role: _values(role, found[role]) for role in roles})
    values: dict[str, RoleValues] = {}
    patterns: dict[str, tuple[ParameterPattern, ...]] = {}
    for role in sorted(found, key=lambda role: role == "hidden"):
        for key, claimed in _groups(role, found[role]):
            pattern = claimed[0] if claimed else None
            values[key], patterns[key] = _values(role, found[role], pattern), claimed
    named = any(patterns.values())
    return Sheet(recipe, values, patterns if named else {})


def _groups(role: Role, found: RoleRecipe) -> list[tuple[str, tuple[ParameterPattern, ...]]]:
    """Key and patterns of parameters with equal values; those with the role's own come last."""
    by_values: dict[OwnValues | None, list[ParameterPattern]] = {None: []}
    for pattern in found.parameters:
        by_values.setdefault(pattern.own, []).append(pattern)
    keys = [str(role), *(f"{role}_{n}" for n in range(2, len(by_values) + 1))]
    groups = zip(keys, by_values.values(), strict=True)
    return [(key, tuple(patterns)) for key, patterns in groups][::-1]


def _values(role: Role, found: RoleRecipe, pattern: ParameterPattern | None = None) -> RoleValues:
    init = found.of_pattern(pattern).init_std_mult.value
    return RoleValues(role=role, init=init, **vars(found.values(pattern)))


def fold_attention(sheet: Sheet) -> Sheet:
    """Move the attention scale over 1/sqrt(d_head) into the query matrices, as role `query`."""
    scale = sheet.unusual_scale
    if scale is None:
        return sheet
    factor = scale.value * math.sqrt(scale.head_size)
    hidden, decay = sheet.values["hidden"], sheet.values["hidden"].weight_decay
    query = replace(
        hidden,
        lr=hidden.lr * factor,
        weight_decay=None if decay is None else decay / factor,
        eps=None if hidden.eps is None else hidden.eps / factor,
        init=hidden.init * factor,
    )
    return replace(sheet, values={"query": query, **sheet.values}, folds_attention=True)


def number(value: float) -> str:
    """The shortest digits that give the same value back, with a dot: YAML 1.1 reads 1e-08 as
    text."""
    mantissa, e, exponent = repr(float(value)).partition("e")
    return mantissa + ("" if "." in mantissa else ".0") + e + exponent


def comment(sentence: str) -> list[str]:
    """Lines of a comment in Python, YAML and shell; nothing in it can end the comment."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in sentence)
    lines = textwrap.wrap(safe, 96, break_long_words=False, break_on_hyphens=False)
    return [f"# {line}" if n == 0 else f"#   {line}" for n, line in enumerate(lines or [""])]


def comments(sentences: Iterable[str]) -> str:
    return "\n".join(line for sentence in sentences for line in comment(sentence)) + "\n"


def ratio(sheet: Sheet, values: Values) -> str:
    """A rate relative to that of the parameters that no pattern claims."""
    return f"{values.lr / sheet.rest.lr:.4g} x {sheet.rest_role}"


def decay_note(values: Values) -> str:
    """Weight decay in both conventions; the file itself holds the lr-coupled one."""
    if values.weight_decay is None:
        return "weight decay not known: use that of your runs"
    if not values.weight_decay:
        return "no weight decay"
    coupled, independent = values.weight_decay, values.independent or 0.0
    return f"weight decay {coupled:.6g} lr-coupled = {independent:.6g} independent"


def python_values(values: Values) -> str:
    """Keywords of a parameter group, as the content of a Python dictionary."""
    content = {
        "lr": number(values.lr),
        "weight_decay": None if values.weight_decay is None else number(values.weight_decay),
        "betas": values.betas and f"({', '.join(map(number, values.betas))})",
        "eps": None if values.eps is None else number(values.eps),
    }
    return ", ".join(f'"{key}": {text}' for key, text in content.items() if text)
