"""From exponents to the recipe of a target width, with forecast and warnings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mutransfer_cli import __version__
from mutransfer_cli.errors import InputError, InsufficientEvidence
from mutransfer_cli.fit.exponents import FAR, Axis, Exponents, Group
from mutransfer_cli.recipe.forecast import forecast, from_octaves
from mutransfer_cli.recipe.quantities import Quantity, WeightDecay
from mutransfer_cli.recipe.roles import Target, holds_for, rule_part
from mutransfer_cli.recipe.straightness import straightness_warning
from mutransfer_cli.recipe.types import (
    RECIPE_SCHEMA,
    HoldsFor,
    ParameterPattern,
    Provenance,
    Recipe,
    RoleRecipe,
)
from mutransfer_cli.recipe.weight_decay import undeclared
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.rules.plan import AxisName
from mutransfer_cli.rules.rule import folding_limits, folds_exactly
from mutransfer_cli.spec.protocol import Protocol
from mutransfer_cli.strict import nearest, validated
from mutransfer_cli.words import rate

NO_PROTOCOL = "the exponents hold no protocol; declare one for `fit-exponents`"
TIED = (
    "the target's embedding is its readout, and the fitted runs are taken to have had tied weights "
    "too, as their protocol does not say it"
)
FOLDED = "folded: "  # begins a warning on the folded model
GLOBAL = (
    "no protocol was declared: the base values are for all parameters, as in the runs, and nothing "
    "is scaled by role; declare how the runs were made, with a protocol for `fit-exponents`"
)


def build_recipe(exponents: Exponents, target: Target) -> Recipe:
    """Build the recipe of a target width.

    Raises:
        InsufficientEvidence: an axis without a usable fit.
        InputError: a group or a key of `holds_for` that does not exist, or folding without a rule.
    """
    target = replace(target, folded=is_folded(exponents, target))
    found = usable_group(exponents, target.group)
    axes, width, protocol = found.axes, target.width, exponents.protocol
    fitted = _fitted(found, width)
    decay = _base_weight_decay(found, exponents, fitted)
    fitted_widths = [w for w, optimum in axes["lr"].optimum.items() if optimum.status == "ok"]
    warnings = [
        *(warning for name, axis in axes.items() for warning in _fit_warnings(name, axis)),
        *_distance_warnings(fitted_widths, width),
        *(
            warning
            for name, axis in axes.items()
            if (warning := straightness_warning(name, axis, width))
        ),
    ]
    if protocol is None:
        by_rule: dict[str, Any] = _without_rule(target)
        warnings.append(GLOBAL)
    else:
        if decay is None:
            raise InsufficientEvidence(
                "weight_decay varied over too few values to be fitted, so the one to use is not "
                "known; sweep three positive values or more, or keep one"
            )
        by_rule = rule_part(exponents, protocol, target, fitted, decay)
        if decay.value and not protocol.scales_decay:
            warnings.append(undeclared(decay.value))
        warnings += _target_warnings(holds_for(protocol), target)
        warnings += _folding_warnings(exponents, target, by_rule)
        if tied_patterns(by_rule["roles"]) and not exponents.base_plan:
            warnings.append(TIED)
    return Recipe(
        schema_=RECIPE_SCHEMA,
        width=width,
        values="absolute",
        base_lr=fitted["lr"],
        base_weight_decay=decay,
        forecast={
            name: forecast(name, axis, width, target.loss_per_doubling, exponents.loss_unit)
            for name, axis in axes.items()
        },
        **by_rule,
        warnings=tuple(dict.fromkeys(warnings)),
        provenance=Provenance(
            tool_version=__version__,
            protocol_hash=exponents.protocol_hash,
            data_sha256=protocol.data.sha256 if isinstance(protocol, Protocol) else None,
            widths=tuple(sorted(fitted_widths)),
            trials=sum(exponents.trials.values()),
        ),
    )


def with_rule_of(recipe: Recipe, exponents: Exponents, target: Target) -> Recipe:
    """The recipe with the rule applied for `target` instead: folded, or by role alone.

    Args:
        recipe: built for the same width, model and group; it keeps its forecast, and its warnings
            but those of folding.
        target: `folded` must be given.
    """
    protocol, decay = exponents.protocol, recipe.base_weight_decay
    if protocol is None or decay is None:
        return recipe
    fitted = _fitted(chosen_group(exponents, target.group), target.width)
    by_rule = rule_part(exponents, protocol, target, fitted, decay)
    folding = _folding_warnings(exponents, target, by_rule)
    kept = [warning for warning in recipe.warnings if not warning.startswith(FOLDED)]
    warnings = dict.fromkeys([*kept, *folding])
    return recipe.model_copy(update=by_rule | {"warnings": tuple(warnings)})


def _fitted(group: Group, width: int) -> dict[AxisName, Quantity]:
    return {name: fitted_at(name, axis, width) for name, axis in group.axes.items()}


def _folding_warnings(
    exponents: Exponents, target: Target, by_rule: Mapping[str, Any]
) -> list[str]:
    """Warnings where the folded model is not exactly the unfolded one, or keeps a factor.

    Args:
        by_rule: fields of the recipe from `rule_part`.
    """
    protocol, scale = exponents.protocol, by_rule["attention_scale"]
    if protocol is None or not target.folded:
        return []
    width_mult = target.width / protocol.parameterization.base_width
    tied, clips = tied_patterns(by_rule["roles"]), protocol.train.clip is not None
    is_known = bool(exponents.base_plan) or target.model is not None
    limits = folding_limits(
        protocol.rule, clips, width_mult, bool(tied) if tied or is_known else None
    )
    kept = [
        f"the output multiplier {rate(output)} of {pattern.pattern} stays in the forward pass, "
        "where the weight is the readout, since no gain was seen directly before it that could "
        "take it"
        for pattern, output in tied
        if output != 1
    ]
    if scale is not None and scale.in_forward_pass:
        kept.append(
            f"the attention scale {scale.formula} = {rate(scale.value)} stays in the forward pass, "
            "since the model's queries have no matrix of their own that could take it"
        )
    return [f"{FOLDED}{limit}" for limit in (*kept, *limits)]


def tied_patterns(
    roles: Mapping[Role, RoleRecipe],
) -> list[tuple[ParameterPattern, float]]:
    """Patterns of weights that are embedding and readout, with their output multipliers."""
    found = (pattern for values in roles.values() for pattern in values.parameters)
    return [(p, p.output) for p in found if p.output is not None]


def is_folded(exponents: Exponents, target: Target) -> bool:
    """Whether to fold: as asked; by default where it is exact, for a declared protocol never."""
    protocol = exponents.protocol
    if target.folded is not None or not isinstance(protocol, Protocol):
        return bool(target.folded)
    return folds_exactly(protocol.rule, clip=protocol.train.clip is not None)


def usable_group(exponents: Exponents, name: str | None) -> Group:
    """The fits from which a recipe can be made.

    Raises:
        InsufficientEvidence: an axis without a usable fit, or no fit of lr.
        InputError: as in `chosen_group`.
    """
    group = chosen_group(exponents, name)
    for axis, fit in group.axes.items():
        if fit.status != "ok":
            raise InsufficientEvidence(
                f"the exponents hold no usable fit of {axis}: {fit.sentence}"
            )
    if "lr" not in group.axes:
        raise InsufficientEvidence("the exponents hold no fit of lr; sweep several values of it")
    return group


def chosen_group(exponents: Exponents, name: str | None) -> Group:
    """The fits of a group, or the only ones.

    Raises:
        InputError: no such group, a group although there are none, or no choice between several.
    """
    if not exponents.groups:
        if name is not None:
            raise InputError(
                f"group {name}: the exponents hold no groups; leave it out", setting="group"
            )
        return Group(axes=exponents.axes, weight_decay=exponents.weight_decay)
    if name is None:
        found = ", ".join(exponents.groups)
        raise InputError(f"the exponents hold groups ({found}); choose one", remedy="group")
    if name not in exponents.groups:
        raise InputError(f"group {name}: unknown{nearest(name, exponents.groups)}", setting="group")
    return exponents.groups[name]


def of_group(exponents: Exponents, name: str | None) -> Exponents:
    """The exponents of a group, or the only ones, as if they had been fitted alone.

    Raises:
        InputError: as in `chosen_group`.
    """
    found = chosen_group(exponents, name)
    only = {"axes": found.axes, "decay": found.decay, "weight_decay": found.weight_decay}
    return exponents.model_copy(update=only | {"groups": {}}) if exponents.groups else exponents


def fitted_at(name: AxisName, axis: Axis, width: int) -> Quantity:
    """The fitted line at a width; its interval is that of the line, not of one future run."""
    assert axis.exponent is not None, "callers refuse an insufficient fit"
    value, half_width, *_ = axis.at(width)
    what = f"the interval of {name} at width {width}"
    return Quantity(
        value=from_octaves(value, what),
        status="fitted",
        low=from_octaves(value - half_width, what),
        high=from_octaves(value + half_width, what),
        level=axis.exponent.level,
        source=f"fitted line over {len(axis.usable)} widths",
    )


def _base_weight_decay(
    group: Group, exponents: Exponents, fitted: Mapping[AxisName, Quantity]
) -> WeightDecay | None:
    """The fitted value, otherwise that of all trials; None if it varied unfitted or is unknown."""
    if "weight_decay" in fitted:
        found = fitted["weight_decay"].model_dump()
        return WeightDecay(**found, convention=exponents.decay_convention)
    value, protocol = group.weight_decay, exponents.protocol
    if protocol is not None and protocol.rule.weight_decay == "none":
        value = 0.0
    if value is None:
        return None
    return WeightDecay(
        value=value,
        status="assumed",
        source="that of all runs",
        convention=exponents.decay_convention,
    )


def _without_rule(target: Target) -> dict[str, Any]:
    """Fields of a recipe without a rule; refuses settings that need one."""
    needed = {"fold": target.folded, "target": target.settings, "model": target.model}
    for setting, given in needed.items():
        if given:
            raise InputError(NO_PROTOCOL, setting=setting)
    nothing = ("base_width", "parameterization", "optimizer", "attention_scale", "holds_for")
    return {"scope": "global", "lr_mult": {}, "roles": {}, **dict.fromkeys(nothing)}


def _fit_warnings(name: AxisName, axis: Axis) -> Iterator[str]:
    """Warnings of the fit, also where it contradicts the rule."""
    yield from axis.warnings.values()
    refused = {w: o.status for w, o in sorted(axis.optimum.items()) if o.status != "ok"}
    if refused:
        listed = ", ".join(f"{width} is {status}" for width, status in refused.items())
        yield f"the fit of {name} leaves widths out: {listed}"
    exponent, expected = axis.exponent, axis.expected_exponent
    assert exponent is not None
    if expected is not None and not exponent.low <= expected <= exponent.high:
        yield (
            f"the rule expects exponent {expected:g} of the base {name} and the fit says "
            f"{exponent.low:.3f} to {exponent.high:.3f}: transfer is not as derived"
        )


def _distance_warnings(fitted_widths: Sequence[int], width: int) -> Iterator[str]:
    smallest, largest = min(fitted_widths), max(fitted_widths)
    far = f"from {FAR}x on the line is extrapolated far; sweep a"
    if (times := width / largest) >= FAR:
        above = f"{times:.3g}x the largest fitted width {largest}"
        yield f"width {width} is {above}: {far} larger width"
    if (times := smallest / width) >= FAR:
        below = f"{times:.3g}x below the smallest fitted width {smallest}"
        yield f"width {width} is {below}: {far} smaller width"


def _target_warnings(holds: HoldsFor, target: Target) -> Iterator[str]:
    """Conditions in which the target run differs from the fit.

    Raises:
        InputError: a key of `settings` that does not exist, or a value that it cannot have.
    """
    held = {key: getattr(holds, key) for key in HoldsFor.model_fields if key != "options"}
    for key, text in target.settings.items():
        if key not in held:
            raise InputError(f"target {key}: unknown{nearest(key, held)}", setting="target")
        value = None if text == "null" else text
        there = getattr(validated(HoldsFor, held | {key: value}, "target"), key)
        if held[key] is None and key != "clip":
            yield f"{key}: not known for the fit, and the target has {text}"
        elif there != held[key]:
            yield _differs(key, held[key], text)
    facts = target.model.facts if target.model else {}
    for key, size in facts.items():
        if key not in target.settings and size is not None and held[key] not in (None, size):
            yield _differs(key, held[key], str(size))
    known = "head_size" in target.settings or facts.get("head_size")
    if not known and holds.head_size and target.width % holds.head_size:
        yield f"width {target.width} is not a multiple of the proxies' head_size {holds.head_size}"
    known = "heads" in target.settings or facts.get("head_size")
    if not known and holds.heads and target.width % holds.heads:
        yield f"width {target.width} is not a multiple of the proxies' {holds.heads} heads"


def _differs(key: str, held: object, target: str) -> str:
    return (
        f"{key}: the fit was made under {held} and the target has {target}; nothing was rescaled "
        "for it"
    )
