"""Numbers, comments and quoted text for files that other programs read.

MERGED:
What an emitter writes: the values of a recipe by role, weight decay lr-coupled."""

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
from mutransfer_cli.rules.weight_decay import to_independent, to_lr_coupled


def number(value: float) -> str:
    """As many digits as give the same value back, and a dot: without it YAML 1.1 takes 1e-08 for
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
    """A rate against that of the parameters not named."""
    return f"{values.lr / sheet.rest.lr:.4g} x {sheet.rest_role}"


def decay_note(values: Values) -> str:
    """Both conventions; the file itself holds the lr-coupled one."""
    if values.weight_decay is None:
        return "weight decay not known: use that of your runs"
    if not values.weight_decay:
        return "no weight decay"
    coupled, independent = values.weight_decay, values.independent or 0.0
    return f"weight decay {coupled:.6g} lr-coupled = {independent:.6g} independent"


def python_values(values: Values) -> str:
    """Keywords of a parameter group as a Python dictionary's content."""
    content = {
        "lr": number(values.lr),
        "weight_decay": None if values.weight_decay is None else number(values.weight_decay),
        "betas": values.betas and f"({', '.join(map(number, values.betas))})",
        "eps": None if values.eps is None else number(values.eps),
    }
    return ", ".join(f'"{key}": {text}' for key, text in content.items() if text)


STOCK_ROLES: tuple[Role, ...] = ("embedding", "readout", "vector", "hidden")  # hidden: all others

Key = Literal["lr", "weight_decay", "eps", "init", "multiplier"]


@dataclass(frozen=True)
class Values:
    """Of one role, or of those parameters of it that have values of their own.

    Attributes:
        weight_decay: lr-coupled (w -= lr * weight_decay * w); None where it is not known.
        init: std over that of the base model.
    """

    lr: float
    weight_decay: float | None
    eps: float | None = None
    betas: tuple[float, float] | None = None
    init: float = 1.0
    multiplier: float = 1.0
    role: Role | None = None

    @property
    def independent(self) -> float | None:
        if self.weight_decay is None:
            return None
        return to_independent(self.weight_decay, "lr_coupled", self.lr)


@dataclass(frozen=True)
class Sheet:
    """
    Attributes:
        values: by role (`hidden_2` and so on for parameters of it with values of their own); the
            last is for all parameters that no other claims. Under one global rate there is `all`
            alone.
        patterns: of the same keys; empty where no names are known.
        folds_attention: whether the attention scale is moved into the query matrices.
    """

    recipe: Recipe
    values: dict[str, Values]
    patterns: Mapping[str, tuple[ParameterPattern, ...]] = field(default_factory=dict)
    folds_attention: bool = False
    header: tuple[str, ...] = ()

    @property
    def rest(self) -> Values:
        return list(self.values.values())[-1]

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
        """A value of every role that has it."""
        found = {role: getattr(values, key) for role, values in self.values.items()}
        return {role: value for role, value in found.items() if value is not None}


def sheet_of(recipe: Recipe, roles: tuple[Role, ...] | None = None) -> Sheet:
    """
    Args:
        roles: those of the target's model, its catch-all last; by default the recipe's own, hidden
            last.
    """
    if recipe.scope == "global":
        decay = recipe.base_weight_decay
        coupled = None
        if decay is not None:
            convention = decay.convention or "lr_coupled"
            coupled = to_lr_coupled(decay.value, convention, recipe.base_lr.value)
        return Sheet(recipe, {"all": Values(recipe.base_lr.value, coupled)})
    found = recipe.roles
    if roles is not None:
        return Sheet(recipe, {role: _values(role, found[role]) for role in roles})
    values: dict[str, Values] = {}
    patterns: dict[str, tuple[ParameterPattern, ...]] = {}
    for role in sorted(found, key=lambda role: role == "hidden"):
        for key, own, names in _groups(role, found[role]):
            values[key], patterns[key] = _values(role, found[role], own), names
    named = any(patterns.values())
    return Sheet(recipe, values, patterns if named else {})


def fold_attention(sheet: Sheet) -> Sheet:
    """Queries with the attention scale over 1/sqrt(d_head) in their weights, in `query`."""
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


def _groups(
    role: Role, found: RoleRecipe
) -> list[tuple[str, OwnValues | None, tuple[ParameterPattern, ...]]]:
    """Key, values in place of the role's, and names; the role's own last."""
    by_values: dict[OwnValues | None, list[ParameterPattern]] = {None: []}
    for parameter in found.parameters:
        by_values.setdefault(parameter.own, []).append(parameter)
    keys = [str(role), *(f"{role}_{n}" for n in range(2, len(by_values) + 1))]
    groups = zip(keys, by_values.items(), strict=True)
    return [(key, own, tuple(names)) for key, (own, names) in groups][::-1]


def _values(role: Role, found: RoleRecipe, own: OwnValues | None = None) -> Values:
    values = own or found
    lr, decay = values.lr.value, values.weight_decay
    return Values(
        lr=lr,
        weight_decay=to_lr_coupled(decay.value, decay.convention or "lr_coupled", lr),
        eps=None if values.eps is None else values.eps.value,
        betas=None if found.betas is None else found.betas.value,
        init=values.init_std_mult.value,
        multiplier=values.multiplier.value,
        role=role,
    )
