"""The part of a recipe that a protocol gives: roles by the rule, and what the fit holds for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mutransfer_cli.emit.roles import Basis, Ruled, role_recipe, shared_patterns
from mutransfer_cli.emit.target import Target
from mutransfer_cli.files.declared import DeclaredProtocol
from mutransfer_cli.files.exponents import Exponents
from mutransfer_cli.files.mlp import MLPProtocol
from mutransfer_cli.files.optimizers import OptimizerSpec
from mutransfer_cli.files.parameterization import ParameterizationSpec
from mutransfer_cli.files.recipe import (
    AttentionScaleValue,
    HoldsFor,
    Quantity,
    RuleChoices,
    WeightDecay,
)
from mutransfer_cli.files.records import Protocol
from mutransfer_cli.files.transformer import ModelProtocol, attention_factor
from mutransfer_cli.rules.plan import (
    MULT_AXES,
    AxisName,
    BaseParameter,
    fan_in_growth,
    parameter_exponents,
    role_parameters,
)
from mutransfer_cli.rules.roles import MatrixRole, Role

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
