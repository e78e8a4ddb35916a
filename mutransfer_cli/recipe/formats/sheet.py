"""A recipe as format writers need it: values by role, and text for numbers and comments."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from mutransfer_cli.recipe.types import AttentionScaleValue, HoldsFor, ParameterPattern, Recipe
from mutransfer_cli.rules.choices import MATRIX_ROLES, Role
from mutransfer_cli.rules.plan import Values as Values

StockKind = Literal["embedding", "readout", "vector", "query", "down", "hidden"]
STOCK_KINDS: tuple[StockKind, ...] = get_args(StockKind)  # hidden claims what no other does

Key = Literal["lr", "weight_decay", "eps", "multiplier", "init_std"]


@dataclass(frozen=True, kw_only=True)
class GroupValues(Values):
    """Values of parameters that are trained alike: those of a role, or of a part of it."""

    role: Role | None = None
    """None where all parameters share one rate."""
    init_fan_in: int | None = None
    """Fan-in of a matrix of std `init_std`, where matrices of other sizes start at the std that
    scales as fan_in^-1/2; None where `init_std` is that of all, or is known by pattern alone."""


@dataclass(frozen=True)
class Sheet:
    """A recipe as a format writer needs it."""

    recipe: Recipe
    values: dict[str, GroupValues]
    """By role (`hidden_2` and so on for parameters of it with values of their own), or for the
    framework's own Llama by kind of parameter; the last is for all parameters that no other claims.
    Under one global rate there is `all` alone."""
    patterns: Mapping[str, tuple[ParameterPattern, ...]] = field(default_factory=dict)
    """Under the same keys; empty for the framework's own Llama."""
    swept: frozenset[str] = frozenset()
    """Names of the proxies' parameters, where these are known."""
    header: tuple[str, ...] = ()
    """Sentences for the top of the file."""
    own_factors: Mapping[str, Any] = field(default_factory=dict)
    """Fields of a Hugging Face config by which the models of the fit scaled themselves."""

    @property
    def rest(self) -> GroupValues:
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
        """The attention scale, if the target's code has to apply it."""
        scale = self.attention_scale
        return scale if scale is not None and scale.in_forward_pass else None

    @property
    def folds_attention(self) -> bool:
        """Whether the attention scale is moved into the query matrices."""
        return self.attention_scale is not None and self.attention_scale.folded

    @property
    def knows_init(self) -> bool:
        """Whether the std of every matrix is known."""
        return all(v.init_std is not None or v.keeps_draw for v in self.values.values())

    @property
    def kept(self) -> list[str]:
        """Patterns of the parameters that keep the draw of the model's own code."""
        found = (p for patterns in self.patterns.values() for p in patterns)
        return [p.pattern for p in found if p.keeps_draw]

    @property
    def tied(self) -> ParameterPattern | None:
        """The pattern of a weight that is embedding and readout."""
        found = (p for role in self.recipe.roles.values() for p in role.parameters)
        return next((p for p in found if p.output is not None), None)

    @property
    def output_multiplier(self) -> float:
        """Factor on such a weight where it is the readout; 1 without one."""
        output = self.tied.output if self.tied else None
        return 1.0 if output is None else output

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


def sheet_of(recipe: Recipe, knows_init: bool = True) -> Sheet:
    """The sheet of a recipe under the names of its own patterns.

    Args:
        knows_init: whether its init stds are those of the runs.
    """
    if recipe.scope == "global":
        return Sheet(recipe, {"all": GroupValues(**vars(recipe.base_values()))})
    values: dict[str, GroupValues] = {}
    for key, (role, _, claimed) in recipe.groups().items():
        drawn = [pattern for pattern in claimed if not pattern.keeps_draw]
        found = recipe.roles[role].values(next(iter([*drawn, *claimed]), None))
        values[key] = GroupValues(role=role, **vars(found))
        if not knows_init and role in MATRIX_ROLES:
            values[key] = replace(values[key], init_std=None)
    patterns = {key: group.patterns for key, group in recipe.groups().items()}
    return Sheet(recipe, values, patterns)


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
