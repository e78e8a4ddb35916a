"""What is asked of a recipe.

MERGED:
What a role gets at the target: every number with its status and source.
The part of a recipe that a protocol gives: roles by the rule, and what the fit holds for."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.recipe.types import (
    AtBase,
    AttentionScaleValue,
    Betas,
    HoldsFor,
    OwnValues,
    ParameterPattern,
    Quantity,
    RoleRecipe,
    RuleChoices,
    WeightDecay,
)
from mutransfer_cli.rules.choices import MatrixRole, Role
from mutransfer_cli.rules.document import EVERETT, READOUT_ASSUMED
from mutransfer_cli.rules.plan import (
    MULT_AXES,
    AxisName,
    BaseParameter,
    PlannedParameter,
    TargetModel,
    fan_in_growth,
    parameter_exponents,
    role_parameters,
    scaled,
)
from mutransfer_cli.rules.rule import RoleExponents, Rule, role_exponents
from mutransfer_cli.rules.weight_decay import decay_source, to_independent
from mutransfer_cli.spec.decoder import ModelProtocol, attention_factor
from mutransfer_cli.spec.model import MLPProtocol
from mutransfer_cli.spec.optimizers import OptimizerSpec
from mutransfer_cli.spec.parameterization import ParameterizationSpec
from mutransfer_cli.spec.protocol import DeclaredProtocol, Protocol


@dataclass(frozen=True)
class Target:
    """What the recipe is for.

    Attributes:
        said: what the user says of the target run, by key of `holds_for`; a difference is a
            warning, never a silent rescaling.
        folded: move multipliers into the other values, with a warning where that is not exact;
            None: where it is.
        loss_per_doubling: nats by which the target's loss falls per doubling of its compute.
        group: which of the exponents' groups.
        model: to be trained, of this width; without it the recipe has the proxies' own names.
        by_role: values of roles alone, without names.
    """

    width: int
    said: Mapping[str, str]
    folded: bool | None = None
    loss_per_doubling: float | None = None
    group: str | None = None
    model: TargetModel | None = None
    by_role: bool = False


@dataclass(frozen=True)
class Ruled:
    """A planned parameter with what the rule made its values of.

    Attributes:
        x: exponents of its growth.
        growth: of its fan-in, or of the width.
    """

    base: BaseParameter
    planned: PlannedParameter
    x: RoleExponents
    growth: float

    @property
    def key(self) -> tuple[float | None, ...]:
        """Equal where all values are."""
        p = self.planned
        return (p.lr, p.weight_decay, p.eps, p.multiplier, self.growth)


@dataclass(frozen=True)
class Basis:
    """What the values of all roles are made from.

    Attributes:
        fitted: base values at the target.
    """

    optimizer: OptimizerSpec
    rule: Rule
    fitted: Mapping[AxisName, Quantity]
    width_mult: float

    def power(self, ruled: Ruled, exponent: Fraction) -> str:
        """Of what grows, in words."""
        base = "width_mult" if ruled.growth == self.width_mult else f"{ruled.growth:.6g}"
        return f"{base}^{exponent}"

    @property
    def derived(self) -> str:
        rule = self.rule
        return f"{EVERETT}, {rule.parameterization}" + (", folded" if rule.folded else "")


def role_recipe(
    basis: Basis, parameters: Sequence[Ruled], has_model: bool, shared: Collection[str] = ()
) -> RoleRecipe:
    """
    Args:
        parameters: of the role, or one that stands for all where no model is known. The role gets
            the values that most of them have.
        shared: patterns that parameters of another role match as well.
    """
    counts = Counter(parameter.key for parameter in parameters)
    usual = max(parameters, key=lambda parameter: counts[parameter.key])
    role, optimizer = usual.planned.role, basis.optimizer
    # muon's betas and eps are those of adamw, which updates all but hidden matrices
    updated_by = optimizer.facts.of_role(role)
    betas = getattr(optimizer, "betas", None) if updated_by.family == "adam" else None
    values = own_values(basis, usual)
    return RoleRecipe(
        optimizer=updated_by.name,
        lr=values.lr,
        weight_decay=values.weight_decay,
        eps=values.eps,
        betas=None
        if betas is None
        else Betas(value=betas, status="assumed", source="the proxies'"),
        multiplier=values.multiplier,
        init_std_mult=values.init_std_mult,
        parameters=_patterns(basis, parameters, usual, shared) if has_model else (),
    )


def own_values(basis: Basis, ruled: Ruled) -> OwnValues:
    p, x = ruled.planned, ruled.x
    starts_at_zero = p.role == "readout" and not p.init_std
    eps = None
    if p.eps is not None:
        source = f"the proxies' * {basis.power(ruled, x.eps or Fraction(0))}"
        eps = Quantity(value=p.eps, status="assumed", source=source)
    return OwnValues(
        lr=_lr(basis, ruled),
        weight_decay=_weight_decay(basis, ruled),
        eps=eps,
        multiplier=Quantity(
            value=p.multiplier,
            status="derived",
            source=f"{basis.power(ruled, x.multiplier)}; {basis.derived}",
        ),
        init_std_mult=Quantity(
            value=0.0 if starts_at_zero else scaled(1.0, ruled.growth, x.init_std),
            status="derived",
            source="zero in the base model" if starts_at_zero else _init_source(basis, ruled),
        ),
    )


def _init_source(basis: Basis, ruled: Ruled) -> str:
    of_rule = role_exponents(basis.rule, ruled.planned.role).init_std == ruled.x.init_std
    source = basis.derived if of_rule else "the model's own multiplier or init"
    return f"{basis.power(ruled, ruled.x.init_std)}; {source}"


def _patterns(
    basis: Basis, parameters: Sequence[Ruled], usual: Ruled, shared: Collection[str]
) -> tuple[ParameterPattern, ...]:
    """One for the same parameter of all blocks, or, where values or roles differ, one for each."""
    alike: dict[str, list[Ruled]] = {}
    for parameter in parameters:
        alike.setdefault(name_pattern(parameter.planned.name), []).append(parameter)
    patterns = {}
    for pattern, found in alike.items():
        values = {(r.planned.init_std, r.planned.init_mean, *r.key) for r in found}
        if len(values) == 1 and pattern not in shared:
            patterns[pattern] = found[0]
        else:
            patterns |= {f"^{re.escape(r.planned.name)}$": r for r in found}
    return tuple(
        ParameterPattern(
            pattern=pattern,
            init_std=Quantity(
                value=ruled.planned.init_std,
                status="derived",
                source=f"base init std * {_init_source(basis, ruled)}",
            ),
            init_mean=ruled.planned.init_mean,
            own=None if ruled.key == usual.key else own_values(basis, ruled),
            base=_at_base(basis, ruled),
        )
        for pattern, ruled in patterns.items()
    )


def _at_base(basis: Basis, ruled: Ruled) -> AtBase:
    base, fan_in = ruled.base, None
    if base.fan_in_axis is not None and ruled.growth != basis.width_mult:
        fan_in = base.shape[base.fan_in_axis], ruled.planned.shape[base.fan_in_axis]
    return AtBase(
        init_std=base.init_std,
        fan_in=fan_in,
        own_multiplier=base.own_multiplier,
        init_exponent=base.init_exponent,
    )


def _lr(basis: Basis, ruled: Ruled) -> Quantity:
    """Its interval takes the errors of the base rate and of the role's factor as independent."""
    planned, fitted = ruled.planned, basis.fitted
    mult = [axis for role, axis in MULT_AXES.items() if role == planned.role and axis in fitted]
    names: list[AxisName] = ["lr", *mult]
    sources = [fitted[name] for name in names]
    half_widths = [math.log2(q.high / q.low) / 2 for q in sources if q.low and q.high]
    factor = 2 ** math.hypot(*half_widths)
    return Quantity(
        value=planned.lr,
        status="fitted",
        low=planned.lr / factor,
        high=planned.lr * factor,
        level=fitted["lr"].level,
        source=" * ".join(["base_lr", *mult, basis.power(ruled, ruled.x.lr)]),
    )


def _weight_decay(basis: Basis, ruled: Ruled) -> WeightDecay:
    """Back in the rule's convention; the plan speaks lr_coupled."""
    planned, rule, exponent = ruled.planned, basis.rule, ruled.x.weight_decay
    fitted = basis.fitted.get("weight_decay")
    value = planned.weight_decay
    if rule.decay_convention == "independent":
        value = to_independent(value, "lr_coupled", planned.lr)
    if exponent is None:
        source = "none for this role"
    else:
        power = basis.power(ruled, exponent)
        source = f"base_weight_decay * {power}; {decay_source(rule.weight_decay)}"
    if exponent is not None and planned.role == "readout":
        source += READOUT_ASSUMED
    interval = {}
    if fitted is not None and exponent is not None and fitted.low and fitted.high:
        low, high = (value * end / fitted.value for end in (fitted.low, fitted.high))
        interval = {"low": low, "high": high, "level": fitted.level}
    return WeightDecay(
        value=value,
        status="fitted" if interval else "assumed",
        source=source,
        convention=rule.decay_convention,
        **interval,
    )


def shared_patterns(by_role: Mapping[Role, Sequence[Ruled]]) -> frozenset[str]:
    """Those of several roles: of a Sequential, 0.weight and 2.weight may be anything."""
    found = Counter(
        pattern
        for parameters in by_role.values()
        for pattern in {name_pattern(parameter.planned.name) for parameter in parameters}
    )
    return frozenset(pattern for pattern, roles in found.items() if roles > 1)


def name_pattern(name: str) -> str:
    r"""An anchored regex for a parameter in any block: blocks.0.up.weight -> ^blocks\.\d+\.up..."""
    parts = (r"\d+" if part.isdigit() else re.escape(part) for part in name.split("."))
    return "^" + r"\.".join(parts) + "$"


PER_ROLE = {"weight_decay", "lr_mult", "betas", "eps"}  # of the optimizer, given by role


def rule_part(
    exponents: Exponents,
    protocol: Protocol | DeclaredProtocol,
    target: Target,
    fitted: Mapping[AxisName, Quantity],
    base_weight_decay: WeightDecay,
) -> dict[str, Any]:
    """The fields of a recipe that follow from the rule; without a base plan roles stand alone."""
    section, rule = protocol.parameterization, replace(protocol.rule, folded=bool(target.folded))
    width_mult, model = target.width / section.base_width, target.model
    proxies = [record.parameter() for record in exponents.base_plan]
    own_names = () if target.by_role else model.base_plan if model else proxies
    base_plan = with_readout_of(proxies, own_names or role_parameters())
    shapes = model.shapes if model and own_names else None
    values = {name: quantity.value for name, quantity in fitted.items()}
    values |= {"weight_decay": base_weight_decay.value}
    planned = section.plan(protocol.optimizer, base_plan, target.width, values, rule.folded, shapes)
    by_role: dict[Role, list[Ruled]] = {}
    for base, parameter in zip(base_plan, planned, strict=True):
        growth = fan_in_growth(base, parameter.shape) if shapes else None
        x = parameter_exponents(rule, base)
        ruled = Ruled(base, parameter, x, width_mult if growth is None else growth)
        by_role.setdefault(parameter.role, []).append(ruled)
    basis, shared = Basis(protocol.optimizer, rule, fitted, width_mult), shared_patterns(by_role)
    return {
        "scope": "per_role",
        "base_width": section.base_width,
        "parameterization": section.name,
        "rule": _choices(section, protocol.optimizer, rule.folded),
        "optimizer": protocol.optimizer.model_dump(exclude=PER_ROLE),
        "lr_mult": _lr_mult(protocol.optimizer, fitted),
        "attention_scale": _attention_scale(protocol, target),
        "roles": {
            role: role_recipe(basis, parameters, bool(own_names), shared)
            for role, parameters in by_role.items()
        },
        "holds_for": holds_for(protocol),
    }


def _choices(section: ParameterizationSpec, optimizer: OptimizerSpec, folded: bool) -> RuleChoices:
    choices = section.model_dump(exclude={"name", "base_width"})
    return RuleChoices(**choices, folded=folded, eps=getattr(optimizer, "eps", None))


def with_readout_of(
    proxies: Sequence[BaseParameter], base_plan: Sequence[BaseParameter]
) -> tuple[BaseParameter, ...]:
    """A base plan whose readout starts as the proxies' does, where that is not by the rule."""
    readout = next((p for p in proxies if p.role == "readout"), None)
    if readout is None or (readout.init_exponent is None and readout.init_std):
        return tuple(base_plan)
    exponent, share = readout.init_exponent, 1.0 if readout.init_std else 0.0
    return tuple(
        replace(p, init_exponent=exponent, init_std=share * p.init_std)
        if p.role == "readout"
        else p
        for p in base_plan
    )


def _attention_scale(
    protocol: Protocol | DeclaredProtocol, target: Target
) -> AttentionScaleValue | None:
    """By the proxies' formula for the target's heads, where they are known, else for theirs."""
    model, formula = protocol.model, protocol.model.attention_scale
    head_size = target.model.facts.get("head_size") if target.model else None
    if head_size is None:
        head_size = model.head_size
        if isinstance(model, ModelProtocol) and model.heads and target.width % model.heads == 0:
            head_size = model.head_size_at(target.width)
    if formula is None or head_size is None:
        return None
    return AttentionScaleValue(
        formula=formula,
        head_size=head_size,
        value=attention_factor(formula, head_size),
        status="assumed",
    )


def _lr_mult(
    optimizer: OptimizerSpec, fitted: Mapping[AxisName, Quantity]
) -> dict[MatrixRole, Quantity]:
    """The factors on the rates of roles that are not 1 by default."""
    fixed = {
        role: Quantity(value=value, status="assumed", source="the proxies'")
        for role, value in optimizer.lr_mult.items()
    }
    swept = {role: fitted[axis] for role, axis in MULT_AXES.items() if axis in fitted}
    return fixed | swept


def holds_for(protocol: Protocol | DeclaredProtocol) -> HoldsFor:
    train, model = protocol.train, protocol.model
    batch_tokens = None if train.context is None else train.batch * train.context
    built_in = model if isinstance(model, ModelProtocol | MLPProtocol) else None
    return HoldsFor(
        depth=model.depth,
        head_size=model.head_size,
        heads=model.heads if isinstance(model, ModelProtocol) else None,
        context=train.context,
        batch=train.batch,
        batch_tokens=batch_tokens,
        steps=train.steps,
        tokens=None if batch_tokens is None else batch_tokens * train.steps,
        warmup=train.warmup,
        schedule=train.schedule,
        decay_fraction=train.decay_fraction,
        clip=train.clip,
        precision=train.precision,
        optimizer=protocol.optimizer.name,
        vocab=model.vocab,
        options=(built_in.options or None) if built_in else None,
    )
