"""What a role gets at the target: every number with its status and source."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from mutransfer_cli.emit.rules import EVERETT, READOUT_ASSUMED
from mutransfer_cli.files.optimizers import OptimizerSpec
from mutransfer_cli.files.recipe import (
    AtBase,
    Betas,
    OwnValues,
    ParameterPattern,
    Quantity,
    RoleRecipe,
    WeightDecay,
)
from mutransfer_cli.rules.exponents import RoleExponents, role_exponents
from mutransfer_cli.rules.optimizers import family_of
from mutransfer_cli.rules.plan import (
    MULT_AXES,
    AxisName,
    BaseParameter,
    PlannedParameter,
    scaled,
)
from mutransfer_cli.rules.roles import Role
from mutransfer_cli.rules.rule import Rule
from mutransfer_cli.rules.weight_decay import decay_source, to_independent


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
    adam = family_of(optimizer.name, role) == "adam"
    betas = getattr(optimizer, "betas", None) if adam else None
    values = own_values(basis, usual)
    return RoleRecipe(
        optimizer="adamw" if optimizer.name == "muon" and role != "hidden" else optimizer.name,
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
