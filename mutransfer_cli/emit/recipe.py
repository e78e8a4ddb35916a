"""From exponents to the recipe of a target width."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

from mutransfer_cli import __version__
from mutransfer_cli.emit.forecast import forecast
from mutransfer_cli.emit.roles import role_recipe
from mutransfer_cli.errors import InputError, InsufficientEvidence
from mutransfer_cli.files.exponents import Axis, Exponents
from mutransfer_cli.files.optimizers import OptimizerSpec
from mutransfer_cli.files.recipe import (
    RECIPE_SCHEMA,
    AttentionScaleValue,
    HoldsFor,
    Provenance,
    Quantity,
    Recipe,
)
from mutransfer_cli.files.records import Protocol
from mutransfer_cli.files.strict import nearest, validated
from mutransfer_cli.rules.folding import folding_limits
from mutransfer_cli.rules.plan import MULT_AXES, AxisName, PlannedParameter
from mutransfer_cli.rules.roles import MatrixRole, Role

FAR = 8  # times the largest swept width
PER_ROLE = {"weight_decay", "lr_mult", "betas", "eps"}  # of the optimizer, given by role


def build_recipe(
    exponents: Exponents, width: int, target: Mapping[str, str], folded: bool = False
) -> Recipe:
    """The recipe at `width`.

    Args:
        target: what the user says of the target run, by key of `holds_for`; a difference is a
            warning, never a silent rescaling.
        folded: move multipliers into the other values, with a warning where that is not exact.

    Raises:
        InsufficientEvidence: an axis without a usable fit.
        InputError: exponents without a protocol, or a target key that is not one of `holds_for`.
    """
    protocol = usable_protocol(exponents)
    section = protocol.parameterization
    fitted = {name: fitted_at(axis, width) for name, axis in exponents.axes.items()}
    planned = section.plan(
        protocol.optimizer,
        [record.parameter() for record in exponents.base_plan],
        width,
        {name: quantity.value for name, quantity in fitted.items()},
        folded,
    )
    rule = replace(protocol.rule, folded=folded)
    by_role: dict[Role, list[PlannedParameter]] = {}
    for parameter in planned:
        by_role.setdefault(parameter.role, []).append(parameter)
    rule = replace(protocol.rule, folded=folded)
    return Recipe(
        schema_=RECIPE_SCHEMA,
        width=width,
        base_width=section.base_width,
        parameterization=section.name,
        values="absolute",
        optimizer=protocol.optimizer.model_dump(exclude=PER_ROLE),
        base_lr=fitted["lr"],
        forecast=forecast("lr", exponents.axes["lr"], width, fitted["lr"].value),
        lr_mult=_lr_mult(protocol.optimizer, fitted),
        attention_scale=AttentionScaleValue(
            formula=protocol.model.attention_scale,
            head_size=protocol.model.head_size,
            value=protocol.model.attention_factor,
            status="assumed",
        ),
        roles={
            role: role_recipe(protocol, rule, parameters, fitted)
            for role, parameters in by_role.items()
        },
        holds_for=holds_for_protocol(protocol),
        warnings=tuple(_warnings(exponents, protocol, width, target, folded)),
        provenance=Provenance(
            tool_version=__version__,
            protocol_hash=protocol.hash,
            data_sha256=protocol.data.sha256,
            widths=tuple(sorted(exponents.axes["lr"].optimum)),
            trials=sum(exponents.trials.values()),
        ),
    )


def usable_protocol(exponents: Exponents) -> Protocol:
    """The protocol of exponents from which a recipe can be made; build_recipe's errors else."""
    if exponents.protocol is None:
        raise InputError(
            "the exponents are of own results and hold no protocol: no rule says what a role gets; "
            "their forecast is the line itself (axes.lr.line, prediction)"
        )
    for name, axis in exponents.axes.items():
        if axis.line is None or axis.exponent is None:
            raise InsufficientEvidence(
                f"the exponents hold no usable fit of {name}: {axis.sentence}"
            )
    if "lr" not in exponents.axes:
        raise InsufficientEvidence("the exponents hold no fit of lr; sweep several values of it")
    return exponents.protocol


def _warnings(
    exponents: Exponents,
    protocol: Protocol,
    width: int,
    target: Mapping[str, str],
    folded: bool,
) -> Iterator[str]:
    for name, axis in exponents.axes.items():
        yield from _fit_warnings(name, axis)
    yield from _distance_warnings(max(exponents.axes["lr"].optimum), width)
    yield from _target_warnings(holds_for_protocol(protocol), width, target)
    if folded:
        width_mult = width / protocol.parameterization.base_width
        for limit in folding_limits(protocol.rule, protocol.train.clip is not None, width_mult):
            yield f"folded: {limit}"


def fitted_at(axis: Axis, width: int) -> Quantity:
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


def _fit_warnings(name: AxisName, axis: Axis) -> list[str]:
    """Of the fit itself, and where it misses what the rule expects."""
    found = list(axis.warnings.values())
    exponent, expected = axis.exponent, axis.expected_exponent
    assert exponent is not None
    if expected is None or exponent.low <= expected <= exponent.high:
        return found
    return [
        *found,
        f"the rule expects exponent {expected:g} of the base {name} and the fit says "
        f"{exponent.low:.3f} to {exponent.high:.3f}: transfer is not as derived",
    ]


def _distance_warnings(largest: int, width: int) -> list[str]:
    if width <= FAR * largest:
        return []
    return [
        f"width {width} is {width / largest:.0f}x the largest swept width {largest}: "
        f"beyond {FAR}x the line is extrapolated far; sweep a larger width"
    ]


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
