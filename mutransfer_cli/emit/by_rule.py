"""The part of a recipe that a protocol gives: roles by the rule, and what the fit holds for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mutransfer_cli.emit.roles import role_recipe
from mutransfer_cli.files.declared import DeclaredProtocol
from mutransfer_cli.files.exponents import Exponents
from mutransfer_cli.files.optimizers import OptimizerSpec
from mutransfer_cli.files.recipe import AttentionScaleValue, HoldsFor, Quantity, WeightDecay
from mutransfer_cli.files.records import Protocol
from mutransfer_cli.files.transformer import ModelProtocol, attention_factor
from mutransfer_cli.rules.plan import (
    MULT_AXES,
    AxisName,
    PlannedParameter,
    parameter_exponents,
    role_parameters,
)
from mutransfer_cli.rules.roles import MatrixRole, Role

PER_ROLE = {"weight_decay", "lr_mult", "betas", "eps"}  # of the optimizer, given by role


def rule_part(
    exponents: Exponents,
    protocol: Protocol | DeclaredProtocol,
    width: int,
    fitted: Mapping[AxisName, Quantity],
    base_weight_decay: WeightDecay,
    folded: bool,
) -> dict[str, Any]:
    """The fields of a recipe that follow from the rule; without a base plan roles stand alone."""
    section, rule = protocol.parameterization, replace(protocol.rule, folded=folded)
    base_plan = [record.parameter() for record in exponents.base_plan] or role_parameters()
    values = {name: quantity.value for name, quantity in fitted.items()}
    values |= {"weight_decay": base_weight_decay.value}
    exponents_of = {p.role: parameter_exponents(rule, p) for p in reversed(base_plan)}
    by_role: dict[Role, list[PlannedParameter]] = {}
    for planned in section.plan(protocol.optimizer, base_plan, width, values, folded):
        by_role.setdefault(planned.role, []).append(planned)
    width_mult, has_model = width / section.base_width, bool(exponents.base_plan)
    return {
        "scope": "per_role",
        "base_width": section.base_width,
        "parameterization": section.name,
        "optimizer": protocol.optimizer.model_dump(exclude=PER_ROLE),
        "lr_mult": _lr_mult(protocol.optimizer, fitted),
        "attention_scale": _attention_scale(protocol, width),
        "roles": {
            role: role_recipe(
                protocol.optimizer,
                rule,
                exponents_of[role],
                parameters,
                fitted,
                width_mult,
                has_model,
            )
            for role, parameters in by_role.items()
        },
        "holds_for": holds_for(protocol),
    }


def _attention_scale(
    protocol: Protocol | DeclaredProtocol, width: int
) -> AttentionScaleValue | None:
    model = protocol.model
    formula, head_size = model.attention_scale, model.head_size
    if isinstance(model, ModelProtocol) and model.heads and width % model.heads == 0:
        head_size = model.head_size_at(width)
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
    built_in = model if isinstance(model, ModelProtocol) else None
    return HoldsFor(
        depth=model.depth,
        head_size=model.head_size,
        heads=built_in.heads if built_in else None,
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
