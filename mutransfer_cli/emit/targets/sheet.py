"""What an emitter writes: the values of a recipe by role, weight decay lr-coupled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mutransfer_cli.files.recipe import AttentionScaleValue, HoldsFor, Recipe, RoleRecipe
from mutransfer_cli.rules.roles import Role
from mutransfer_cli.rules.weight_decay import to_independent, to_lr_coupled

STOCK_ROLES: tuple[Role, ...] = ("embedding", "readout", "vector", "hidden")  # hidden: all others

Key = Literal["lr", "weight_decay", "eps", "init", "multiplier"]


@dataclass(frozen=True)
class Values:
    """Of one role.

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

    @property
    def independent(self) -> float | None:
        if self.weight_decay is None:
            return None
        return to_independent(self.weight_decay, "lr_coupled", self.lr)


@dataclass(frozen=True)
class Sheet:
    """
    Attributes:
        values: by role; the last is for all parameters that no other claims. Under one global
            rate there is `all` alone.
    """

    recipe: Recipe
    values: dict[str, Values]
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
        scale = self.attention_scale
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
    own = sorted(found, key=lambda role: role == "hidden")
    return Sheet(recipe, {role: _values(found[role]) for role in roles or own})


def _values(role: RoleRecipe) -> Values:
    lr, decay = role.lr.value, role.weight_decay
    return Values(
        lr=lr,
        weight_decay=to_lr_coupled(decay.value, decay.convention or "lr_coupled", lr),
        eps=None if role.eps is None else role.eps.value,
        betas=None if role.betas is None else role.betas.value,
        init=role.init_std_mult.value,
        multiplier=role.multiplier.value,
    )
