"""From exponents to the recipe of a target width."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from mutransfer_cli import __version__
from mutransfer_cli.errors import InputError, InsufficientEvidence
from mutransfer_cli.files.exponents import Axis, Exponents
from mutransfer_cli.files.recipe import (
    RECIPE_SCHEMA,
    AttentionScaleValue,
    Betas,
    HoldsFor,
    ParameterPattern,
    Provenance,
    Quantity,
    Recipe,
    RoleRecipe,
    WeightDecay,
)
from mutransfer_cli.files.records import Protocol
from mutransfer_cli.files.strict import nearest, validated
from mutransfer_cli.rules.exponents import RoleExponents, role_exponents
from mutransfer_cli.rules.plan import BaseValues, PlannedParameter, plan
from mutransfer_cli.rules.roles import Role

FAR = 8  # times the largest swept width
RULE = "Everett et al. 2024, Table 1, Adam, full alignment"
DECAY_RULE = "lr * weight_decay constant in width (Kosson et al., arXiv 2510.19093)"


def build_recipe(exponents: Exponents, width: int, target: Mapping[str, str]) -> Recipe:
    """The recipe at `width`.

    Args:
        target: what the user says of the target run, by key of `holds_for`; a difference is a
            warning, never a silent rescaling.

    Raises:
        InsufficientEvidence: the exponents hold no usable fit.
        InputError: a target key that is not one of `holds_for`.
    """
    axis = exponents.axes.lr
    if axis.line is None or axis.exponent is None:
        raise InsufficientEvidence(f"the exponents hold no usable fit of lr: {axis.sentence}")
    protocol = exponents.protocol
    base_lr = base_lr_at(axis, width)
    rule = protocol.parameterization
    planned = plan(
        [record.parameter() for record in exponents.base_plan],
        rule.name,
        rule.base_width,
        width,
        BaseValues(base_lr.value, protocol.optimizer.weight_decay, protocol.optimizer.eps),
    )
    holds_for = holds_for_protocol(protocol)
    by_role: dict[Role, list[PlannedParameter]] = {}
    for parameter in planned:
        by_role.setdefault(parameter.role, []).append(parameter)
    swept = tuple(sorted(axis.optimum))
    return Recipe(
        schema_=RECIPE_SCHEMA,
        width=width,
        base_width=rule.base_width,
        parameterization=rule.name,
        values="absolute",
        base_lr=base_lr,
        attention_scale=AttentionScaleValue(
            formula=protocol.model.attention_scale,
            head_size=protocol.model.head_size,
            value=protocol.attention_scale,
            status="assumed",
        ),
        roles={
            role: _role_recipe(protocol, role_exponents(rule.name, role), parameters, base_lr)
            for role, parameters in by_role.items()
        },
        holds_for=holds_for,
        warnings=(
            *_fit_warnings(axis, swept, width),
            *_target_warnings(holds_for, width, target),
        ),
        provenance=Provenance(
            tool_version=__version__,
            protocol_hash=exponents.protocol_hash,
            data_sha256=protocol.data.sha256,
            widths=swept,
            trials=sum(exponents.trials.values()),
        ),
    )


def base_lr_at(axis: Axis, width: int) -> Quantity:
    """The fitted line at a width; its interval is that of the line, not of one future run."""
    line, exponent = axis.line, axis.exponent
    assert line is not None, "callers refuse an insufficient fit"
    assert exponent is not None
    octaves = math.log2(width / line.width)
    at_centre = math.log2(line.high / line.low) / 2
    by_exponent = (exponent.high - exponent.low) / 2 * octaves
    half_width = math.hypot(at_centre, by_exponent)
    value = math.log2(line.value) + exponent.value * octaves
    return Quantity(
        value=2**value,
        status="fitted",
        low=2 ** (value - half_width),
        high=2 ** (value + half_width),
        level=exponent.level,
        source=f"fitted line over {sum(o.status == 'ok' for o in axis.optimum.values())} widths",
    )


def _role_recipe(
    protocol: Protocol, x: RoleExponents, planned: Sequence[PlannedParameter], base_lr: Quantity
) -> RoleRecipe:
    optimizer, first = protocol.optimizer, planned[0]
    lr_mult = first.lr / base_lr.value
    assert base_lr.low is not None
    assert base_lr.high is not None
    patterns = {
        name_pattern(parameter.name): Quantity(
            value=parameter.init_std,
            status="derived",
            source=f"base init std * width_mult^{x.init_std}; {RULE}",
        )
        for parameter in planned
    }
    return RoleRecipe(
        lr=Quantity(
            value=first.lr,
            status="fitted",
            low=base_lr.low * lr_mult,
            high=base_lr.high * lr_mult,
            level=base_lr.level,
            source=f"base_lr * width_mult^{x.lr}",
        ),
        weight_decay=WeightDecay(
            value=first.weight_decay,
            status="assumed",
            source="none for this role"
            if x.weight_decay is None
            else f"the proxies'; {DECAY_RULE}",
            convention="lr_coupled",
        ),
        eps=Quantity(value=first.eps, status="assumed", source="the proxies'"),
        betas=Betas(value=optimizer.betas, status="assumed", source="the proxies'"),
        multiplier=Quantity(
            value=first.multiplier, status="derived", source=f"width_mult^{x.multiplier}; {RULE}"
        ),
        parameters=tuple(
            ParameterPattern(pattern=pattern, init_std=init_std)
            for pattern, init_std in patterns.items()
        ),
    )


def name_pattern(name: str) -> str:
    r"""An anchored regex for a parameter in any block: blocks.0.up.weight -> ^blocks\.\d+\.up..."""
    parts = (r"\d+" if part.isdigit() else re.escape(part) for part in name.split("."))
    return "^" + r"\.".join(parts) + "$"


def holds_for_protocol(protocol: Protocol) -> HoldsFor:
    train, model = protocol.train, protocol.model
    return HoldsFor(
        depth=model.depth,
        head_size=model.head_size,
        context=train.context,
        batch=train.batch,
        batch_tokens=protocol.batch_tokens,
        steps=train.steps,
        tokens=protocol.batch_tokens * train.steps,
        warmup=train.warmup,
        schedule=train.schedule,
        clip=train.clip,
        precision=train.precision,
        optimizer=protocol.optimizer.name,
        vocab=model.vocab,
    )


def _fit_warnings(axis: Axis, swept: Sequence[int], width: int) -> list[str]:
    assert axis.exponent is not None
    warnings = []
    largest = max(swept)
    if width > FAR * largest:
        warnings.append(
            f"width {width} is {width / largest:.0f}x the largest swept width {largest}: "
            f"beyond {FAR}x the line is extrapolated far; sweep a larger width"
        )
    if not axis.exponent.low <= axis.expected_exponent <= axis.exponent.high:
        warnings.append(
            f"the rule expects exponent {axis.expected_exponent:g} of the base lr and the fit says "
            f"{axis.exponent.low:.3f} to {axis.exponent.high:.3f}: transfer is not as derived"
        )
    return warnings


def _target_warnings(holds_for: HoldsFor, width: int, target: Mapping[str, str]) -> list[str]:
    held = holds_for.model_dump()
    warnings = []
    for key, said in target.items():
        if key not in held:
            raise InputError(f"--target {key}: unknown{nearest(key, held)}")
        value = None if said == "null" else said
        if getattr(validated(HoldsFor, held | {key: value}, "--target"), key) != held[key]:
            warnings.append(
                f"{key}: the fit was made under {held[key]} and the target has {said}; nothing was "
                "rescaled for it"
            )
    if "head_size" not in target and width % holds_for.head_size:
        warnings.append(
            f"width {width} is no multiple of the proxies' head_size {holds_for.head_size}"
        )
    return warnings
