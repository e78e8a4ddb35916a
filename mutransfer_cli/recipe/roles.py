"""Values of the roles at the target by the rule, every number with its status and source."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.recipe.attention import attention_scale, with_queries
from mutransfer_cli.recipe.choices import RuleChoices
from mutransfer_cli.recipe.gains import with_gains
from mutransfer_cli.recipe.inits import with_inits
from mutransfer_cli.recipe.quantities import Betas, Quantity, WeightDecay
from mutransfer_cli.recipe.types import AtBase, HoldsFor, OwnValues, ParameterPattern, RoleRecipe
from mutransfer_cli.recipe.weight_decay import UNDECLARED
from mutransfer_cli.rules.choices import MatrixRole, Role
from mutransfer_cli.rules.document import EVERETT, YANG, assumed_decay, decay_grounds
from mutransfer_cli.rules.plan import (
    MULT_AXES,
    AxisName,
    BaseParameter,
    PlannedParameter,
    TargetModel,
    fan_in,
    fan_in_growth,
    output_power,
    parameter_exponents,
    role_parameters,
    rule_of,
    scaled,
)
from mutransfer_cli.rules.rule import RoleExponents, Rule, role_exponents
from mutransfer_cli.spec.decoder import ModelProtocol
from mutransfer_cli.spec.model import MLPProtocol
from mutransfer_cli.spec.optimizers import OptimizerSpec
from mutransfer_cli.spec.protocol import DeclaredProtocol, Protocol

PER_ROLE = {"weight_decay", "lr_mult", "betas", "eps"}  # optimizer settings that roles hold
PROXIES = "the proxies'"  # source of a value that is taken over


@dataclass(frozen=True)
class Target:
    """The run that a recipe is for."""

    width: int
    """Width of the target model, in features."""
    settings: Mapping[str, str]
    """Settings of the target run, by key of `holds_for`; a difference is a warning, never a silent
    rescaling."""
    folded: bool | None = None
    """Whether multipliers are moved into the other values, with a warning where that is not exact;
    None: where it is exact."""
    loss_per_doubling: float | None = None
    """Nats by which the target's loss falls per doubling of its compute."""
    group: str | None = None
    """Name of a group of the exponents."""
    model: TargetModel | None = None
    """The model to be trained, of this width; without it the recipe has the proxies' names."""


@dataclass(frozen=True)
class Basis:
    """The input from which the values of all roles are derived."""

    optimizer: OptimizerSpec
    rule: Rule
    fitted: Mapping[AxisName, Quantity]
    """Base values at the target's width."""
    width_mult: float
    """Target width over base width."""
    weight_decay: float
    """Base weight decay."""
    scales_decay: bool
    """Whether the protocol says how weight decay changes with width."""


@dataclass(frozen=True)
class Derivation:
    """A planned parameter with what its values are derived from."""

    basis: Basis
    base: BaseParameter
    planned: PlannedParameter
    x: RoleExponents
    """Exponents of the growth."""
    growth: float
    """Factor by which its fan-in grows, or the width if the fan-in does not."""

    @property
    def key(self) -> tuple[float | None, ...]:
        """Equal for parameters with equal values, init aside."""
        p = self.planned
        return (p.lr, p.weight_decay, p.eps, p.multiplier, self.growth)

    def power(self, exponent: Fraction | None) -> str:
        """The power of the growth, in words, beside a factor of attention."""
        is_width = self.growth == self.basis.width_mult
        power = f"{'width_mult' if is_width else f'{self.growth:.6g}'}^{exponent or Fraction(0)}"
        if self.base.factor == 1:
            return power
        what = "own factor" if self.base.own_multiplier else "attention scale"
        if self.base.before_readout:
            what = "output multiplier"
        return f"{power}, {what} folded"

    @property
    def source(self) -> str:
        """The source of the rule, in words."""
        rule = self.basis.rule
        return f"{EVERETT}, {rule.parameterization}" + (", folded" if rule.folded else "")

    @property
    def init_source(self) -> str:
        """The power and the source of the init std, in words."""
        by_rule = role_exponents(self.basis.rule, self.base.role).init_std == self.x.init_std
        source = self.source if by_rule else "the model's own multiplier or init"
        if self.base.is_tied_readout and not by_rule:
            source = "no larger logits than an untied readout's"
        return f"{self.power(self.x.init_std)}; {source}"

    def own_values(self) -> OwnValues:
        """All values that the file holds by role."""
        p, x, eps = self.planned, self.x, None
        if p.eps is not None:
            source = f"{PROXIES} * {self.power(x.eps)}"
            eps = Quantity(value=p.eps, status="assumed", source=source)
        init_std_mult, init_source = scaled(1.0, self.growth, x.init_std), self.init_source
        init_std_mult *= self.base.factor
        if self.base.role == "readout" and not p.init_std:
            init_std_mult, init_source = 0.0, "zero in the base model"
        multiplier_source = f"{self.power(x.multiplier)}; {self.source}"
        return OwnValues(
            lr=self._lr(),
            weight_decay=self._weight_decay(),
            eps=eps,
            multiplier=Quantity(value=p.multiplier, status="derived", source=multiplier_source),
            init_std_mult=Quantity(value=init_std_mult, status="derived", source=init_source),
        )

    def _lr(self) -> Quantity:
        """The peak rate; errors of the base rate and the role's factor count as independent."""
        lr, fitted = self.planned.lr, self.basis.fitted
        mult = [axis for role, axis in MULT_AXES.items() if role == self.base.role]
        names: list[AxisName] = ["lr", *(axis for axis in mult if axis in fitted)]
        sources = [fitted[name] for name in names]
        half_widths = [math.log2(q.high / q.low) / 2 for q in sources if q.low and q.high]
        factor = 2 ** math.hypot(*half_widths)
        return Quantity(
            value=lr,
            status="fitted",
            low=lr / factor,
            high=lr * factor,
            level=fitted["lr"].level,
            source=" * ".join(["base_lr", *names[1:], self.power(self.x.lr)]),
        )

    def _weight_decay(self) -> WeightDecay:
        """The planned weight decay, in the rule's convention."""
        rule, exponent, base = self.basis.rule, self.x.weight_decay, self.basis.weight_decay
        is_independent = rule.decay_convention == "independent"
        value = self.planned.independent if is_independent else self.planned.weight_decay
        assert value is not None, "a plan knows every weight decay"
        source, interval, factor = "none for this role", {}, None
        if exponent is not None:
            by = UNDECLARED + assumed_decay(self.base.role)
            by = decay_grounds(rule, self.base) if self.basis.scales_decay else by
            source = f"base_weight_decay * {self.power(exponent)}; {by}"
            factor = scaled(1.0, self.growth, exponent) if base else None
            if factor and self.base.factor != 1:
                factor = value / base
            fitted = self.basis.fitted.get("weight_decay")
            if self.basis.scales_decay and fitted is not None and fitted.low and fitted.high:
                low, high = (value * end / fitted.value for end in (fitted.low, fitted.high))
                interval = {"low": low, "high": high, "level": fitted.level}
        return WeightDecay(
            value=value,
            status="fitted" if interval else "assumed",
            source=source,
            convention=rule.decay_convention,
            base=None if factor is None else base,
            rule=None
            if factor is None or not self.basis.scales_decay
            else str(rule_of(rule, self.base).weight_decay),
            factor=factor,
            **interval,
        )

    def pattern(self, regex: str, usual: Derivation) -> ParameterPattern:
        """The file's pattern, with values of its own where they are not the usual ones."""
        base, planned, sizes = self.base, self.planned, None
        if base.fan_in_axis is not None and self.growth != self.basis.width_mult:
            sizes = fan_in(base, base.shape), fan_in(base, planned.shape)
        assert planned.init_std is not None, "a plan knows every init"
        std = Quantity(
            value=planned.init_std,
            status="derived",
            source=f"base init std * {self.init_source}",
        )
        return ParameterPattern(
            pattern=regex,
            init_std=std,
            init_mean=planned.init_mean,
            keeps_draw=base.keeps_draw,
            output_multiplier=self._output_multiplier(),
            own=None if self.key == usual.key else self.own_values(),
            base=AtBase(
                init_std=base.init_std,
                fan_in=sizes,
                own_multiplier=base.own_multiplier,
                init_exponent=base.init_exponent,
                factor=base.factor,
                in_block=base.in_block,
                is_tied_readout=base.is_tied_readout,
                own_output_multiplier=base.own_output_multiplier,
                output_factor=base.output_factor,
            ),
        )

    def _output_multiplier(self) -> Quantity | None:
        """The factor on a tied embedding as readout; what other parameters take of it is gone."""
        value, base = self.planned.output_multiplier, self.base
        if value is None:
            return None
        source = f"{self.power(output_power(self.basis.rule, base))}; {YANG}"
        if base.output_factor != 1:
            source = f"moved into the gain before the readout: {source}"
        return Quantity(value=value, status="derived", source=source)


def role_recipe(
    parameters: Sequence[Derivation], has_model: bool, shared: Collection[str]
) -> RoleRecipe:
    """Values that most parameters of a role have; the others get values of their own.

    Args:
        parameters: those of the role, or one that stands for all if no model is known.
        shared: patterns that parameters of another role match as well.
    """
    counts = Counter(parameter.key for parameter in parameters)
    usual = max(parameters, key=lambda parameter: counts[parameter.key])
    role, optimizer = usual.base.role, usual.basis.optimizer
    # muon's betas and eps are those of adamw, which updates all but hidden matrices
    updated_by = optimizer.facts.of_role(role)
    betas = getattr(optimizer, "betas", None) if updated_by.family == "adam" else None
    return RoleRecipe(
        **dict(usual.own_values()),
        optimizer=updated_by.name,
        betas=None if betas is None else Betas(value=betas, status="assumed", source=PROXIES),
        parameters=_patterns(parameters, usual, shared) if has_model else (),
    )


def _patterns(
    parameters: Sequence[Derivation], usual: Derivation, shared: Collection[str]
) -> tuple[ParameterPattern, ...]:
    """One for the same parameter of all blocks; where values or roles differ, one for each name."""
    alike: dict[str, list[Derivation]] = {}
    for parameter in parameters:
        alike.setdefault(name_pattern(parameter.base.name), []).append(parameter)
    patterns = {}
    for pattern, found in alike.items():
        values = {
            (d.planned.init_std, d.planned.init_mean, d.base.keeps_draw, *d.key) for d in found
        }
        if len(values) == 1 and pattern not in shared:
            patterns[pattern] = found[0]
        else:
            patterns |= {f"^{re.escape(d.base.name)}$": d for d in found}
    return tuple(derivation.pattern(regex, usual) for regex, derivation in patterns.items())


def shared_patterns(base_plan: Sequence[BaseParameter]) -> frozenset[str]:
    """Patterns of several roles: in a Sequential, 0.weight and 2.weight may be anything."""
    found = Counter(pattern for pattern, _ in {(name_pattern(p.name), p.role) for p in base_plan})
    return frozenset(pattern for pattern, roles in found.items() if roles > 1)


def name_pattern(name: str) -> str:
    r"""An anchored regex for a parameter in any block: blocks.0.up.weight -> ^blocks\.\d+\.up..."""
    parts = (r"\d+" if part.isdigit() else re.escape(part) for part in name.split("."))
    return "^" + r"\.".join(parts) + "$"


def rule_part(
    exponents: Exponents,
    protocol: Protocol | DeclaredProtocol,
    target: Target,
    fitted: Mapping[AxisName, Quantity],
    base_weight_decay: WeightDecay,
) -> dict[str, Any]:
    """Fields of a recipe that follow from the rule; without a base plan, roles stand alone."""
    section, rule = protocol.scaling, replace(protocol.rule, folded=bool(target.folded))
    optimizer, model = protocol.optimizer, target.model
    proxies = tuple(record.parameter() for record in exponents.base_plan)
    own_names = model.base_plan if model else proxies
    base_plan = with_inits(exponents, own_names) if model else proxies or role_parameters()
    shapes = model.shapes if model else None
    folds = bool(target.folded)
    scale = attention_scale(exponents, protocol, target.width, model, folds)
    if scale is not None and scale.folded:
        base_plan = with_queries(exponents, base_plan, scale, model)
    if folds:
        base_plan = with_gains(base_plan, rule, target.width / section.base_width)
    values = {name: quantity.value for name, quantity in fitted.items()}
    values |= {"weight_decay": base_weight_decay.value}
    planned = section.plan(optimizer, base_plan, target.width, values, rule.folded, shapes)
    width_mult, decay = target.width / section.base_width, base_weight_decay.value
    basis = Basis(optimizer, rule, fitted, width_mult, decay, protocol.scales_decay)
    by_role: dict[Role, list[Derivation]] = {}
    for base, parameter in zip(base_plan, planned, strict=True):
        growth = fan_in_growth(base, parameter.shape, is_known=shapes is not None)
        growth = basis.width_mult if growth is None else growth
        derivation = Derivation(basis, base, parameter, parameter_exponents(rule, base), growth)
        by_role.setdefault(base.role, []).append(derivation)
    shared = shared_patterns(base_plan)
    choices = section.model_dump(exclude={"name", "base_width"})
    return {
        "scope": "per_role",
        "base_width": section.base_width,
        "parameterization": section.name,
        "rule": RuleChoices(**choices, folded=rule.folded, eps=getattr(optimizer, "eps", None)),
        "optimizer": optimizer.model_dump(exclude=PER_ROLE),
        "lr_mult": _lr_mult(optimizer, fitted),
        "attention_scale": scale,
        "roles": {
            role: role_recipe(parameters, bool(own_names), shared)
            for role, parameters in by_role.items()
        },
        "holds_for": holds_for(protocol),
    }


def _lr_mult(
    optimizer: OptimizerSpec, fitted: Mapping[AxisName, Quantity]
) -> dict[MatrixRole, Quantity]:
    """Factors on the rates of roles, where they are fixed or swept; the others are 1."""
    fixed = {
        role: Quantity(value=value, status="assumed", source=PROXIES)
        for role, value in optimizer.lr_mult.items()
    }
    swept = {role: fitted[axis] for role, axis in MULT_AXES.items() if axis in fitted}
    return fixed | swept


def holds_for(protocol: Protocol | DeclaredProtocol) -> HoldsFor:
    """The conditions of the fit, by key."""
    train, model = protocol.train, protocol.model
    batch_tokens = None if train.context is None else train.batch * train.context
    built_in = model if isinstance(model, ModelProtocol | MLPProtocol) else None
    return HoldsFor(
        depth=model.depth,
        head_size=model.head_size,
        heads=model.heads if isinstance(model, ModelProtocol) else None,
        batch_tokens=batch_tokens,
        tokens=None if batch_tokens is None else batch_tokens * train.steps,
        optimizer=protocol.optimizer.name,
        vocab=model.vocab,
        options=(built_in.options or None) if built_in else None,
        **train.model_dump(include=set(HoldsFor.model_fields)),
    )
