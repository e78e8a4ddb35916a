"""The plan: a rule applied to one model at one width with base hyperparameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Literal, TypeVar, get_args

from mutransfer_cli.errors import InputError
from mutransfer_cli.rules.choices import ROLES, MatrixRole, Role
from mutransfer_cli.rules.rule import (
    RoleExponents,
    Rule,
    decaying_inside,
    fold,
    output_exponent,
    refuse_tied,
    role_exponents,
    tied_exponents,
)
from mutransfer_cli.rules.weight_decay import to_independent, to_lr_coupled

AxisName = Literal["lr", "weight_decay", "lr_mult.embedding", "lr_mult.hidden", "lr_mult.readout"]
AXES: tuple[AxisName, ...] = get_args(AxisName)
MULT_AXES: dict[MatrixRole, AxisName] = {
    "embedding": "lr_mult.embedding",
    "hidden": "lr_mult.hidden",
    "readout": "lr_mult.readout",
}
Shapes = Mapping[str, tuple[int, ...]]
V = TypeVar("V", bound="Values")


@dataclass(frozen=True)
class BaseParameter:
    """A parameter of the model at the base width.

    Attributes:
        name: dotted name in the module.
        growing_axes: axes whose size is proportional to width.
        init_std: std of its normal init at the base width (the base model's own).
        init_mean: mean of that init, the same at all widths; 1 for a gain.
        fan_in_axis: the input axis, where one is known.
        further_fan_in_axes: input axes beside it, over which the same product sums (nn.Bilinear).
        own_multiplier: exponent of the width in a factor that the model's own code applies to it.
        own_output_multiplier: the same where a tied embedding is the readout.
        init_exponent: exponent of the width in the init std of weight times multiplier, in place of
            the rule's.
        factor: a factor of the forward pass that is moved into the weight, the same at all widths.
        keeps_draw: whether it starts at the values that the model's own code draws at each width,
            as vectors and scalars do whose own init is not constant.
        in_block: whether its input is made by other parameters; an embedding inside the model
            decays as hidden matrices do.
        is_tied_readout: whether the embedding is the readout too, which takes an output multiplier.
        before_readout: whether it is gain or bias of the norm directly before a tied readout, so
            that a factor on it is one on the logits.
        output_factor: a factor on the output multiplier, the inverse of what other parameters take.
    """

    name: str
    role: Role
    shape: tuple[int, ...]
    growing_axes: tuple[int, ...]
    init_std: float
    init_mean: float = 0.0
    fan_in_axis: int | None = None
    own_multiplier: float = 0.0
    init_exponent: float | None = None
    factor: float = 1.0
    further_fan_in_axes: tuple[int, ...] = ()
    keeps_draw: bool = False
    in_block: bool = False
    is_tied_readout: bool = False
    own_output_multiplier: float = 0.0
    before_readout: bool = False
    output_factor: float = 1.0


def role_parameters() -> tuple[BaseParameter, ...]:
    """One parameter of init std 1 for each role; its plan shows a rule without a model."""
    return tuple(BaseParameter(role, role, (1,), (), 1.0) for role in ROLES)


@dataclass(frozen=True)
class TargetModel:
    """A model to be trained, as a rule sees it.

    Attributes:
        base_plan: every trainable parameter as it would be at the base width.
        shapes: shapes of the same parameters at `width`.
        facts: depth, head_size and vocab, each None where it is not known.
        is_llama: whether it is Hugging Face's Llama.
        attention: its own factor on q.k; None where it is not known.
        queries: names of the parameters that make the queries and nothing else; empty where a
            factor on them would not reach q.k, or was not seen to.
        own_factors: fields of its config by which its own code scales it, as the proxies' did.
    """

    width: int
    base_plan: tuple[BaseParameter, ...]
    shapes: Shapes
    facts: Mapping[str, int | None] = field(default_factory=dict)
    is_llama: bool = False
    attention: float | None = None
    queries: frozenset[str] = frozenset()
    own_factors: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BaseValues:
    """Hyperparameters at the base width.

    Attributes:
        lr: peak rate per step.
        weight_decay: in the rule's convention.
        eps: Adam's epsilon; None for an optimizer without one.
        lr_mult: the constants gamma, factors on the rate of a role; 1 where not given.
    """

    lr: float
    weight_decay: float
    eps: float | None
    lr_mult: Mapping[MatrixRole, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Values:
    """The hyperparameters of a parameter at one width; None where a value is not known.

    Attributes:
        lr: peak rate per step.
        weight_decay: lr-coupled, as torch.optim.AdamW takes it: w -= lr * weight_decay * w.
        eps: added to the root of Adam's second moment, in units of the gradient.
        betas: decay per step of Adam's means of the gradient and of its square.
        multiplier: factor on the weight in the forward pass.
        output_multiplier: factor on the weight of a tied embedding where it is the readout, in
            place of `multiplier`; None for every other parameter.
        init_mean: mean of the normal init; 1 for a gain.
        init_std: std of the normal init.
        keeps_draw: whether the values stay as the model's own code draws them.
    """

    lr: float
    weight_decay: float | None = None
    eps: float | None = None
    betas: tuple[float, float] | None = None
    multiplier: float = 1.0
    output_multiplier: float | None = None
    init_mean: float = 0.0
    init_std: float | None = None
    keeps_draw: bool = False

    @property
    def independent(self) -> float | None:
        """Weight decay in the independent convention, w -= schedule * independent * w."""
        if self.weight_decay is None:
            return None
        return to_independent(self.weight_decay, "lr_coupled", self.lr)


@dataclass(frozen=True, kw_only=True)
class PlannedParameter(Values):
    """A parameter with its values at one width.

    Attributes:
        name: dotted name without the prefixes of wrappers; for tied weights, the one in the plan.
        role: None where all parameters share one rate and roles are not known.
        optimizer: name of the optimizer that updates it, where a recipe gives one; under muon it is
            adamw for all but hidden matrices.
    """

    name: str
    role: Role | None
    shape: tuple[int, ...]
    optimizer: str | None = None


def scaled(base: float, width_mult: float, exponent: Fraction) -> float:
    """base * width_mult^exponent, exactly `base` at the base width or with exponent 0."""
    return base if width_mult == 1 or exponent == 0 else base * width_mult ** float(exponent)


def plan(
    base_plan: Sequence[BaseParameter],
    rule: Rule,
    base_width: int,
    width: int,
    base: BaseValues,
    shapes: Shapes | None = None,
) -> tuple[PlannedParameter, ...]:
    """Hyperparameters of every parameter at `width`, in the order of `base_plan`.

    lr_r(n) = lr * gamma_r * (n / base_width)^-c_r, and likewise for the other quantities. If shapes
    are given, a hidden or readout matrix has the growth of its own fan-in in place of
    n / base_width; one that sums over several axes always has.

    Args:
        shapes: shapes of the model at `width`; by default growing axes are proportional to width.

    Raises:
        InputError: a parameter listed twice, a gamma for a role that the model lacks, or tied
            weights that cannot follow the rule.
    """
    refuse_unplannable(base_plan, base.lr_mult)
    if any(parameter.is_tied_readout for parameter in base_plan):
        refuse_tied(rule)
    planned = []
    for parameter in base_plan:
        shape = shapes[parameter.name] if shapes else grown(parameter, base_width, width)
        growth = fan_in_growth(parameter, shape, is_known=shapes is not None)
        width_mult = width / base_width if growth is None else growth
        x = parameter_exponents(rule, parameter)
        gamma = next((value for key, value in base.lr_mult.items() if key == parameter.role), 1.0)
        lr = scaled(base.lr * gamma, width_mult, x.lr)
        decay = 0.0
        if x.weight_decay is not None and base.weight_decay:
            value = scaled(base.weight_decay, width_mult, x.weight_decay)
            decay = to_lr_coupled(value, rule.decay_convention, lr)
        eps = None
        if x.eps is not None and base.eps is not None:
            eps = scaled(base.eps, width_mult, x.eps)
        plain = PlannedParameter(
            name=parameter.name,
            role=parameter.role,
            shape=shape,
            lr=lr,
            weight_decay=decay,
            eps=eps,
            multiplier=scaled(1.0, width_mult, x.multiplier),
            output_multiplier=output_multiplier(rule, parameter, width_mult),
            init_mean=parameter.init_mean,
            init_std=scaled(parameter.init_std, width_mult, x.init_std),
            keeps_draw=parameter.keeps_draw,
        )
        rescalings = rule.optimizer.rescalings(parameter.role)
        planned.append(with_factor(plain, parameter.factor, rescalings))
    return tuple(planned)


def with_factor(values: V, factor: float, rescalings: int) -> V:
    """Values of a weight into which a factor of the forward pass is moved, training unchanged.

    The weight becomes `factor` times as large and its gradient smaller by as much, as in
    `rules.rule.fold` for a power of width.

    Args:
        rescalings: as `Optimizer.rescalings` gives it.
    """
    if factor == 1:
        return values
    rate = factor**rescalings
    decay, eps, std = values.weight_decay, values.eps, values.init_std
    return replace(
        values,
        lr=values.lr * rate,
        weight_decay=None if decay is None else decay / rate,
        eps=None if eps is None else eps / factor,
        init_mean=values.init_mean * factor,
        init_std=None if std is None else std * factor,
    )


def grown(parameter: BaseParameter, base_width: int, width: int) -> tuple[int, ...]:
    """Shape at `width` of a parameter whose growing axes are proportional to width."""
    return tuple(
        size * width // base_width if axis in parameter.growing_axes else size
        for axis, size in enumerate(parameter.shape)
    )


def fan_in_growth(
    parameter: BaseParameter, shape: tuple[int, ...], is_known: bool = True
) -> float | None:
    """Growth of the fan-in of a hidden or readout matrix; None for every other parameter, whose
    growth is that of the width.

    Args:
        is_known: whether `shape` is the model's; one in proportion to the width tells something
            only of a product that sums over several axes.
    """
    axis, further = parameter.fan_in_axis, parameter.further_fan_in_axes
    if axis is None or parameter.role not in ("hidden", "readout") or not (is_known or further):
        return None
    return fan_in(parameter, shape) / fan_in(parameter, parameter.shape)


def fan_in(parameter: BaseParameter, shape: tuple[int, ...]) -> int:
    """The number of terms over which a product with a matrix of this shape sums, without a
    convolution's kernel."""
    assert parameter.fan_in_axis is not None, "not a matrix of known orientation"
    return math.prod(shape[a] for a in (parameter.fan_in_axis, *parameter.further_fan_in_axes))


def output_multiplier(rule: Rule, parameter: BaseParameter, width_mult: float) -> float | None:
    """Factor on a tied embedding where it is the readout; None for every other parameter."""
    if not parameter.is_tied_readout:
        return None
    factor = parameter.output_factor / parameter.factor
    return scaled(1.0, width_mult, output_power(rule, parameter)) * factor


def output_power(rule: Rule, parameter: BaseParameter) -> Fraction:
    """Exponent of width in the output multiplier of a tied embedding."""
    own, own_output = Fraction(parameter.own_multiplier), Fraction(parameter.own_output_multiplier)
    return output_exponent(rule, own) - own_output


def parameter_exponents(rule: Rule, parameter: BaseParameter) -> RoleExponents:
    """Exponents of its role, corrected for powers of width in the model's own code and init."""
    role, own = parameter.role, Fraction(parameter.own_multiplier)
    rule = rule_of(rule, parameter)
    x = tied_exponents(rule) if parameter.is_tied_readout else role_exponents(rule, role)
    if own and role != "vector" and role != "scalar":
        x = replace(x, multiplier=x.multiplier - own)
        x = fold(x, rule, role, own) if rule.folded else x
    if parameter.init_exponent is not None:
        x = replace(x, init_std=Fraction(parameter.init_exponent) - x.multiplier)
    return x


def rule_of(rule: Rule, parameter: BaseParameter) -> Rule:
    """The rule of a parameter, which inside the model decays whatever embeddings do."""
    inside = parameter.in_block and parameter.role == "embedding"
    return decaying_inside(rule) if inside and rule.weight_decay != "none" else rule


def refuse_unplannable(
    base_plan: Sequence[BaseParameter], lr_mult: Mapping[MatrixRole, float]
) -> None:
    """Raise InputError for a parameter listed twice, or a gamma other than 1 for a role the model
    lacks."""
    names = [parameter.name for parameter in base_plan]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{name}: is in the plan twice; every parameter has one place")
    roles = {parameter.role for parameter in base_plan}
    for role, gamma in lr_mult.items():
        if role not in roles and gamma != 1:
            raise InputError(
                f"lr_mult.{role}: found {gamma:g}, and the model has no {role} parameter; its "
                f"roles are {', '.join(sorted(roles))}; leave it out"
            )
