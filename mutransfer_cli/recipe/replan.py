"""Recompute the values of a recipe by the rule that it names, and compare both."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import TypeAdapter, ValidationError

from mutransfer_cli.errors import InputError
from mutransfer_cli.explain import explain
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.rules.plan import (
    MULT_AXES,
    AxisName,
    BaseParameter,
    PlannedParameter,
    Shapes,
    Values,
)
from mutransfer_cli.spec.optimizers import OptimizerSpec
from mutransfer_cli.spec.parameterization import ParameterizationSpec
from mutransfer_cli.strict import validated

QuantityName = Literal["lr", "weight_decay", "eps", "multiplier", "output_multiplier", "init_std"]
QUANTITIES: tuple[QuantityName, ...] = get_args(QuantityName)
CLOSE = 1e-3  # relative tolerance, for numbers that were rounded in a file


@dataclass(frozen=True)
class Deviation:
    """A value of a recipe and the value that its rule gives."""

    quantity: QuantityName
    role: Role
    name: str
    """The name of a parameter, its pattern, or its role."""
    found: float | None
    """The recipe's value; None where it holds none."""
    wanted: float
    """The value by the rule."""
    plain: float
    """The value of the base model."""
    lr: float
    """The parameter's peak rate by the rule."""

    @property
    def share(self) -> float:
        """The relative difference, 0 to 2."""
        if self.found is None:
            return 1.0
        size = max(abs(self.found), abs(self.wanted))
        return abs(self.found - self.wanted) / size if size else 0.0

    def __str__(self) -> str:
        of = self.role if self.name == self.role else f"{self.name} ({self.role})"
        found = shown(self.found)
        return f"{self.quantity} of {of} is {found}, by the rule {self.wanted:.6g}{self._hint()}"

    def _hint(self) -> str:
        """The known mistake that makes such a difference, if there is one."""
        found, wanted, plain = self.found, self.wanted, self.plain
        if not found or not wanted or not plain:
            return ""
        if self.quantity == "weight_decay" and (
            close(found, wanted * self.lr) or close(found, wanted / self.lr)
        ):
            return "; it is in the other convention (independent = lr * lr_coupled)"
        if close(found, plain):
            missing = ", so that the multiplier is missing"
            return "; it is not scaled with width" + (missing if "mult" in self.quantity else "")
        if close(wanted, plain):
            return "; it is scaled with width, and the rule does not scale it"
        if close(found * plain, wanted**2):
            return "; it is scaled with width twice"
        return ""


def close(one: float, other: float, tolerance: float = CLOSE) -> bool:
    """Whether two values are equal up to a relative tolerance."""
    return math.isclose(one, other, rel_tol=tolerance)


def shown(value: float | None) -> str:
    """A value to six digits, or `missing`."""
    return "missing" if value is None else f"{value:.6g}"


def replanned(
    recipe: Recipe, base_plan: Sequence[BaseParameter], shapes: Shapes | None
) -> tuple[PlannedParameter, ...]:
    """Apply the rule that a recipe names to a base plan, at the recipe's width.

    Args:
        recipe: must hold its rule.

    Raises:
        InputError: settings that contradict each other, or a factor for a missing role.
    """
    rule = recipe.rule
    assert rule is not None, "callers report that there is none"
    choices = rule.model_dump(exclude={"folded", "eps"})
    choices |= {"name": recipe.parameterization, "base_width": recipe.base_width}
    section = validated(ParameterizationSpec, choices, "rule")
    settings = (recipe.optimizer or {}) | ({} if rule.eps is None else {"eps": rule.eps})
    try:
        optimizer = TypeAdapter[OptimizerSpec](OptimizerSpec).validate_python(settings)
    except ValidationError as error:
        raise InputError(f"optimizer: {explain(error, settings)}") from error
    lr, decay = recipe.base_lr.value, recipe.base_weight_decay
    axes: dict[AxisName, float] = {"lr": lr, "weight_decay": decay.value if decay else 0.0}
    axes |= {MULT_AXES[role]: factor.value for role, factor in recipe.lr_mult.items()}
    return section.plan(optimizer, base_plan, recipe.width, axes, rule.folded, shapes)


def deviations(
    recipe: Recipe, base: BaseParameter, found: Values, wanted: PlannedParameter
) -> Iterator[Deviation]:
    """Yield the deviation, mostly 0, of every value that both sides know.

    Args:
        base: the parameter in the base model.
        found: the recipe's values.
        wanted: the values by the rule, from `replanned`.
    """
    rule = recipe.rule
    assert rule is not None, "callers report that there is none"
    factor = next((q.value for key, q in recipe.lr_mult.items() if key == base.role), 1.0)
    decay = recipe.base_weight_decay
    plain: dict[QuantityName, float] = {
        "lr": recipe.base_lr.value * factor,
        "weight_decay": decay.value if decay else 0.0,
        "eps": rule.eps or 0.0,
        "multiplier": 1.0,
        "output_multiplier": 1.0,
        "init_std": base.init_std,
    }
    for quantity in QUANTITIES:
        is_independent = quantity == "weight_decay" and rule.decay_convention == "independent"
        key = "independent" if is_independent else quantity
        there, by_rule = getattr(found, key), getattr(wanted, key)
        if by_rule is None or (quantity == "init_std" and there is None):
            continue
        yield Deviation(quantity, base.role, base.name, there, by_rule, plain[quantity], wanted.lr)
