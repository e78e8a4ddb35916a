"""A recipe's values once more: by the rule that it names, to be held against those in it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from pydantic import TypeAdapter, ValidationError

from mutransfer_cli.errors import InputError
from mutransfer_cli.recipe.types import OwnValues, Recipe, RoleRecipe
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.rules.plan import MULT_AXES, AxisName, BaseParameter, PlannedParameter, Shapes
from mutransfer_cli.rules.weight_decay import to_independent, to_lr_coupled
from mutransfer_cli.spec.optimizers import OptimizerSpec
from mutransfer_cli.spec.parameterization import ParameterizationSpec
from mutransfer_cli.strict import explain, validated

QuantityName = Literal["lr", "weight_decay", "eps", "multiplier", "init_std"]
QUANTITIES: tuple[QuantityName, ...] = get_args(QuantityName)
CLOSE = 1e-3  # of a value: what rounding in a file does is no difference

Values = dict[QuantityName, float | None]


@dataclass(frozen=True)
class Deviation:
    """A value of a recipe and what its rule gives.

    Attributes:
        name: of a parameter, its pattern, or its role.
        plain: the value of the base model.
        lr: of the parameter, by the rule.
    """

    quantity: QuantityName
    role: Role
    name: str
    found: float | None
    wanted: float
    plain: float
    lr: float

    @property
    def share(self) -> float:
        """The relative difference, 0 to 2."""
        if self.found is None:
            return 1.0
        size = max(abs(self.found), abs(self.wanted))
        return abs(self.found - self.wanted) / size if size else 0.0

    def __str__(self) -> str:
        of = self.role if self.name == self.role else f"{self.name} ({self.role})"
        found = "not there" if self.found is None else f"{self.found:.6g}"
        return f"{self.quantity} of {of} is {found}, by the rule {self.wanted:.6g}{self._hint()}"

    def _hint(self) -> str:
        """The mistake that makes such a difference."""
        found, wanted, plain = self.found, self.wanted, self.plain
        if not found or not wanted or not plain:
            return ""
        if self.quantity == "weight_decay" and (
            close(found, wanted * self.lr) or close(found, wanted / self.lr)
        ):
            return "; it is in the other convention (independent = lr * lr_coupled)"
        if close(found, plain):
            missing = ", so that the multiplier is missing" if self.quantity == "multiplier" else ""
            return f"; it is not scaled with width{missing}"
        if close(wanted, plain):
            return "; it is scaled with width, and the rule does not scale it"
        if close(found * plain, wanted**2):
            return "; it is scaled with width twice"
        return ""


def close(one: float, other: float, tolerance: float = CLOSE) -> bool:
    return math.isclose(one, other, rel_tol=tolerance)


def replanned(
    recipe: Recipe, base_plan: Sequence[BaseParameter], shapes: Shapes | None
) -> tuple[PlannedParameter, ...]:
    """What the rule of a recipe, which must hold one, gives at its width.

    Raises:
        InputError: settings that contradict each other, or a factor for a role that is not there.
    """
    rule = recipe.rule
    assert rule is not None, "callers say that there is none"
    base_width, name = recipe.base_width, recipe.parameterization
    choices = rule.model_dump(exclude={"folded", "eps"})
    section = validated(
        ParameterizationSpec, {"name": name, "base_width": base_width, **choices}, "rule"
    )
    settings = (recipe.optimizer or {}) | ({} if rule.eps is None else {"eps": rule.eps})
    try:
        optimizer = TypeAdapter[OptimizerSpec](OptimizerSpec).validate_python(settings)
    except ValidationError as error:
        raise InputError(f"optimizer: {explain(error, settings)}") from error
    decay = recipe.base_weight_decay
    axes: dict[AxisName, float] = {
        "lr": recipe.base_lr.value,
        "weight_decay": decay.value if decay else 0.0,
    }
    axes |= {MULT_AXES[role]: factor.value for role, factor in recipe.lr_mult.items()}
    return section.plan(optimizer, base_plan, recipe.width, axes, rule.folded, shapes)


def values_of(values: RoleRecipe | OwnValues, init_std: float | None) -> Values:
    """As they stand in a recipe; weight decay lr-coupled."""
    lr, decay = values.lr.value, values.weight_decay
    return {
        "lr": lr,
        "weight_decay": to_lr_coupled(decay.value, decay.convention or "lr_coupled", lr)
        if decay.value and lr
        else decay.value,
        "eps": values.eps.value if values.eps else None,
        "multiplier": values.multiplier.value,
        "init_std": init_std,
    }


def deviations(
    recipe: Recipe, found: Values, wanted: PlannedParameter, base_init_std: float
) -> Iterator[Deviation]:
    """Of every value that both sides know; most of them are none.

    Args:
        found: with weight decay lr-coupled.
        wanted: by `replanned`.
    """
    rule = recipe.rule
    assert rule is not None, "callers say that there is none"
    plain = _plain(recipe, wanted.role, base_init_std)
    by_rule: Values = {
        "lr": wanted.lr,
        "weight_decay": wanted.weight_decay,
        "eps": wanted.eps,
        "multiplier": wanted.multiplier,
        "init_std": wanted.init_std,
    }
    there = dict(found)
    if rule.decay_convention == "independent":
        for values in (there, by_rule):
            values["weight_decay"] = to_independent(
                values["weight_decay"] or 0.0, "lr_coupled", values["lr"] or 0.0
            )
    for quantity in QUANTITIES:
        value, other = by_rule[quantity], there.get(quantity)
        if value is None or (quantity == "init_std" and other is None):
            continue
        yield Deviation(
            quantity, wanted.role, wanted.name, other, value, plain[quantity], wanted.lr
        )


def _plain(recipe: Recipe, role: Role, init_std: float) -> Mapping[QuantityName, float]:
    """Those of the base model."""
    assert recipe.rule is not None
    factor = next((q.value for key, q in recipe.lr_mult.items() if key == role), 1.0)
    decay = recipe.base_weight_decay
    return {
        "lr": recipe.base_lr.value * factor,
        "weight_decay": decay.value if decay else 0.0,
        "eps": recipe.rule.eps or 0.0,
        "multiplier": 1.0,
        "init_std": init_std,
    }
