"""The plan: a rule applied to one model at one width with base hyperparameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from mutransfer_cli.rules.exponents import ParameterizationName, role_exponents
from mutransfer_cli.rules.roles import Role


@dataclass(frozen=True)
class BaseParameter:
    """A parameter of the model at the base width.

    Attributes:
        name: dotted name in the module.
        role: what width does to it.
        shape: shape at the base width.
        growing_axes: axes whose size is proportional to width.
        init_std: std of its normal init at the base width (the base model's own).
    """

    name: str
    role: Role
    shape: tuple[int, ...]
    growing_axes: tuple[int, ...]
    init_std: float


@dataclass(frozen=True)
class BaseValues:
    """Base hyperparameters: peak lr per step, lr-coupled weight decay, Adam's eps."""

    lr: float
    weight_decay: float
    eps: float


@dataclass(frozen=True)
class PlannedParameter:
    """What one parameter gets at one width; `weight_decay` is lr-coupled (w -= lr * wd * w)."""

    name: str
    role: Role
    shape: tuple[int, ...]
    init_std: float
    multiplier: float
    lr: float
    weight_decay: float
    eps: float


def scaled(base: float, width_mult: float, exponent: Fraction) -> float:
    """base * width_mult^exponent, exactly `base` at the base width or with exponent 0."""
    return base if width_mult == 1 or exponent == 0 else base * width_mult ** float(exponent)


def plan(
    base_plan: Sequence[BaseParameter],
    parameterization: ParameterizationName,
    base_width: int,
    width: int,
    base: BaseValues,
) -> tuple[PlannedParameter, ...]:
    """Every parameter's hyperparameters at `width`, in the order of `base_plan`."""
    width_mult = width / base_width
    planned = []
    for parameter in base_plan:
        x = role_exponents(parameterization, parameter.role)
        decay = (
            0.0 if x.weight_decay is None else scaled(base.weight_decay, width_mult, x.weight_decay)
        )
        planned.append(
            PlannedParameter(
                name=parameter.name,
                role=parameter.role,
                shape=tuple(
                    size * width // base_width if axis in parameter.growing_axes else size
                    for axis, size in enumerate(parameter.shape)
                ),
                init_std=scaled(parameter.init_std, width_mult, x.init_std),
                multiplier=scaled(1.0, width_mult, x.multiplier),
                lr=scaled(base.lr, width_mult, x.lr),
                weight_decay=decay,
                eps=base.eps,
            )
        )
    return tuple(planned)
