"""What a role gets at the target: every number with its status and source."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from mutransfer_cli.emit.rules import EVERETT, READOUT_ASSUMED
from mutransfer_cli.files.optimizers import OptimizerSpec
from mutransfer_cli.files.recipe import (
    Betas,
    ParameterPattern,
    Quantity,
    RoleRecipe,
    WeightDecay,
)
from mutransfer_cli.rules.exponents import RoleExponents, role_exponents
from mutransfer_cli.rules.optimizers import family_of
from mutransfer_cli.rules.plan import MULT_AXES, AxisName, PlannedParameter, scaled
from mutransfer_cli.rules.roles import MATRIX_ROLES
from mutransfer_cli.rules.rule import Rule
from mutransfer_cli.rules.weight_decay import decay_source, to_independent


def role_recipe(
    optimizer: OptimizerSpec,
    rule: Rule,
    x: RoleExponents,
    planned: Sequence[PlannedParameter],
    fitted: Mapping[AxisName, Quantity],
    width_mult: float,
    has_model: bool,
) -> RoleRecipe:
    """
    Args:
        x: the exponents of the role in this model.
        planned: the parameters of the role, or one that stands for all where no model is known.
    """
    first = planned[0]
    role = first.role
    derived = f"{EVERETT}, {rule.parameterization}" + (", folded" if rule.folded else "")
    # muon's betas and eps are those of adamw, which updates all but hidden matrices
    adam = family_of(optimizer.name, role) == "adam"
    betas, eps = getattr(optimizer, "betas", None) if adam else None, first.eps
    of_rule = x.init_std == role_exponents(rule, role).init_std
    init_source = f"width_mult^{x.init_std}; {derived if of_rule else 'as the proxies start'}"
    starts_at_zero = role in MATRIX_ROLES and not any(p.init_std for p in planned)
    return RoleRecipe(
        optimizer="adamw" if optimizer.name == "muon" and role != "hidden" else optimizer.name,
        lr=_role_lr(first, x, fitted),
        weight_decay=_weight_decay(first, rule, x, fitted.get("weight_decay")),
        eps=None
        if eps is None
        else Quantity(value=eps, status="assumed", source=f"the proxies' * width_mult^{x.eps}"),
        betas=None
        if betas is None
        else Betas(value=betas, status="assumed", source="the proxies'"),
        multiplier=Quantity(
            value=first.multiplier, status="derived", source=f"width_mult^{x.multiplier}; {derived}"
        ),
        init_std_mult=Quantity(
            value=0.0 if starts_at_zero else scaled(1.0, width_mult, x.init_std),
            status="derived",
            source="zero in the base model" if starts_at_zero else init_source,
        ),
        parameters=_patterns(planned, f"base init std * {init_source}") if has_model else (),
    )


def _patterns(planned: Sequence[PlannedParameter], source: str) -> tuple[ParameterPattern, ...]:
    """One for the same parameter of all blocks, or, where their inits differ, one for each."""
    alike: dict[str, list[PlannedParameter]] = {}
    for parameter in planned:
        alike.setdefault(name_pattern(parameter.name), []).append(parameter)
    patterns = {}
    for pattern, found in alike.items():
        if len({(p.init_std, p.init_mean) for p in found}) == 1:
            patterns[pattern] = found[0]
        else:
            patterns |= {f"^{re.escape(p.name)}$": p for p in found}
    return tuple(
        ParameterPattern(
            pattern=pattern,
            init_std=Quantity(value=p.init_std, status="derived", source=source),
            init_mean=p.init_mean,
        )
        for pattern, p in patterns.items()
    )


def _role_lr(
    planned: PlannedParameter, x: RoleExponents, fitted: Mapping[AxisName, Quantity]
) -> Quantity:
    """Its interval takes the errors of the base rate and of the role's factor as independent."""
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
        source=" * ".join(["base_lr", *mult, f"width_mult^{x.lr}"]),
    )


def _weight_decay(
    planned: PlannedParameter, rule: Rule, x: RoleExponents, fitted: Quantity | None
) -> WeightDecay:
    """Back in the rule's convention; the plan speaks lr_coupled."""
    exponent = x.weight_decay
    value = planned.weight_decay
    if rule.decay_convention == "independent":
        value = to_independent(value, "lr_coupled", planned.lr)
    if exponent is None:
        source = "none for this role"
    else:
        source = f"base_weight_decay * width_mult^{exponent}; {decay_source(rule.weight_decay)}"
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


def name_pattern(name: str) -> str:
    r"""An anchored regex for a parameter in any block: blocks.0.up.weight -> ^blocks\.\d+\.up..."""
    parts = (r"\d+" if part.isdigit() else re.escape(part) for part in name.split("."))
    return "^" + r"\.".join(parts) + "$"
