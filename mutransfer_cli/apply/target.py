"""What a recipe gives to every parameter of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from mutransfer_cli.apply.claims import Claimed, RolePattern, claim, claim_all
from mutransfer_cli.errors import InputError
from mutransfer_cli.files.recipe import Recipe, WeightDecay
from mutransfer_cli.rules.optimizers import OptimizerName
from mutransfer_cli.rules.roles import Role
from mutransfer_cli.rules.weight_decay import DecayConvention, to_lr_coupled


@dataclass(frozen=True)
class TargetParameter:
    """What one trainable parameter gets; None where the recipe does not say it.

    Attributes:
        name: dotted, without what wrappers put into it; of tied weights the name that is claimed.
        role: None in a recipe for all parameters alike.
        optimizer: what updates it; under muon all but hidden matrices is adamw's.
        lr: peak rate per step.
        weight_decay: lr-coupled, as torch.optim.AdamW takes it: w -= lr * weight_decay * w.
        eps: added to the root of Adam's second moment.
        init_std: of its normal init with mean 0.
        multiplier: factor on the weight in the forward pass.
    """

    name: str
    role: Role | None
    shape: tuple[int, ...]
    optimizer: OptimizerName | None
    lr: float
    weight_decay: float | None
    eps: float | None
    betas: tuple[float, float] | None
    init_std: float | None
    multiplier: float


Targets = list[tuple[Claimed, TargetParameter]]


def targets_of(
    recipe: Recipe,
    patterns: Sequence[RolePattern],
    convention: DecayConvention | None,
    model: nn.Module,
    where: str,
) -> Targets:
    """Every trainable parameter of the model with its values; `claim`'s errors."""
    if recipe.scope == "global":
        return [
            (claimed, _global_target(recipe, claimed, convention, where))
            for claimed in claim_all(model)
        ]
    if not patterns:
        raise InputError(
            f"{where}: names no parameters; say which names are which role with `load_recipe(..., "
            "patterns={role: regex})`"
        )
    return [
        (claimed, _role_target(recipe, claimed, claimed.pattern, convention, where))
        for claimed in claim(model, patterns, where)
        if claimed.pattern is not None
    ]


def _role_target(
    recipe: Recipe,
    claimed: Claimed,
    pattern: RolePattern,
    convention: DecayConvention | None,
    where: str,
) -> TargetParameter:
    of_role = recipe.roles[pattern.role]
    values = pattern.own or of_role
    lr = values.lr.value
    return TargetParameter(
        name=claimed.name,
        role=pattern.role,
        shape=tuple(claimed.tensor.shape),
        optimizer=of_role.optimizer,
        lr=lr,
        weight_decay=_coupled(values.weight_decay, lr, convention, where),
        eps=values.eps.value if values.eps else None,
        betas=of_role.betas.value if of_role.betas else None,
        init_std=pattern.init_std,
        multiplier=values.multiplier.value,
    )


def _global_target(
    recipe: Recipe, claimed: Claimed, convention: DecayConvention | None, where: str
) -> TargetParameter:
    lr, decay = recipe.base_lr.value, recipe.base_weight_decay
    return TargetParameter(
        name=claimed.name,
        role=None,
        shape=tuple(claimed.tensor.shape),
        optimizer=None,
        lr=lr,
        weight_decay=None if decay is None else _coupled(decay, lr, convention, where),
        eps=None,
        betas=None,
        init_std=None,
        multiplier=1.0,
    )


def _coupled(
    decay: WeightDecay, lr: float, convention: DecayConvention | None, where: str
) -> float:
    if not decay.value:
        return 0.0
    said = decay.convention or convention
    if said is None:
        raise InputError(
            f"{where}: weight_decay {decay.value:g} has no convention; say it with "
            "`load_recipe(..., decay_convention='lr_coupled')` or 'independent'"
        )
    return to_lr_coupled(decay.value, said, lr)
