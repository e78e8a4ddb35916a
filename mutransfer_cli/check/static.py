"""Gate `static`: whether a recipe holds the values that its rule gives. Nothing is trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from mutransfer_cli.check.measure import Gate, Measure, gate, unmeasured
from mutransfer_cli.recipe.replan import (
    CLOSE,
    QUANTITIES,
    Deviation,
    QuantityName,
    deviations,
    replanned,
)
from mutransfer_cli.recipe.types import ParameterPattern, Recipe
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.rules.plan import BaseParameter, Values
from mutransfer_cli.spec.decoder import attention_factor

SHOWN = 5
BY_RULE = "difference of the recipe from its rule"
NO_PROTOCOL = (
    "no protocol of the runs was declared (scope: global), so there is no rule; declare one "
    "for `fit-exponents`"
)
NO_RULE = (
    "the recipe does not say all choices of its rule (`rule`); write it again with `mutransfer "
    "transfer`"
)
NO_BASE = "no parameter of the recipe has its init std at the base width (`parameters.base`)"


def static_gate(
    recipe: Recipe, findings_of_model: Iterable[str] = (), unchecked: Iterable[str] = ()
) -> Gate:
    """Compare a recipe with its rule; the numbers are exact, so intervals have no width.

    Args:
        findings_of_model: faults that `check_model` found.
        unchecked: settings that `check_model` could not see.

    Raises:
        InputError: settings of the rule that contradict each other.
    """
    findings = [*_findings(recipe), *findings_of_model]
    evidence = {
        "protocol_hash": str(recipe.provenance.protocol_hash),
        "width": str(recipe.width),
        "base_width": str(recipe.base_width),
    }
    if unchecked := tuple(unchecked):
        evidence["unchecked"] = "; ".join(unchecked)
    return gate("static", _measures(recipe), findings, evidence)


def _measures(recipe: Recipe) -> Iterator[Measure]:
    if recipe.scope == "global" or recipe.rule is None:
        why = NO_PROTOCOL if recipe.scope == "global" else NO_RULE
        yield unmeasured(BY_RULE, why, 0.0, CLOSE)
    else:
        found = _deviations(recipe)
        for quantity in QUANTITIES:
            of_it = [deviation for deviation in found if deviation.quantity == quantity]
            if of_it:
                yield _measured(quantity, of_it)
        if any(p.base is None for values in recipe.roles.values() for p in values.parameters):
            yield unmeasured(f"init_std: {BY_RULE}", NO_BASE, 0.0, CLOSE)
    scale = recipe.attention_scale
    if scale is not None:
        wanted = attention_factor(scale.formula, scale.head_size)
        share = abs(scale.value - wanted) / max(scale.value, wanted)
        verdict = "as it should be" if share <= CLOSE else f"and should be {wanted:.6g}"
        sentence = (
            f"attention scale {scale.formula} of head size {scale.head_size} is {scale.value:.6g}, "
            f"{verdict}"
        )
        yield _exact("attention_scale", share, sentence)


def _deviations(recipe: Recipe) -> list[Deviation]:
    """Deviations of every pattern, or of the role where the recipe names no parameters."""
    rows: dict[str, tuple[BaseParameter, tuple[int, ...], Values]] = {}
    for role, found in recipe.roles.items():
        if not found.parameters:
            base = BaseParameter(role, role, (1,), (), 1.0)
            rows[role] = base, (1,), replace(found.values(), init_std=found.init_std_mult.value)
        for pattern in found.parameters:
            base, shape = _base_parameter(role, pattern)
            values = found.values(pattern)
            known = values if pattern.base else replace(values, init_std=None)
            rows[base.name] = base, shape, known
    base_plan = [base for base, _, _ in rows.values()]
    shapes = {name: shape for name, (_, shape, _) in rows.items()}
    planned = replanned(recipe, base_plan, shapes)
    return [
        deviation
        for wanted, (base, _, values) in zip(planned, rows.values(), strict=True)
        for deviation in deviations(recipe, base, values, wanted)
    ]


def _base_parameter(
    role: Role, parameters: ParameterPattern
) -> tuple[BaseParameter, tuple[int, ...]]:
    """The file's base parameter as one of a single axis, and its shape at the target."""
    name, at_base = parameters.pattern, parameters.base
    if at_base is None:
        return BaseParameter(name, role, (1,), (), 1.0), (1,)
    here, there = at_base.fan_in or (1, 1)
    base = BaseParameter(
        name,
        role,
        (here,),
        (),
        at_base.init_std,
        parameters.init_mean,
        0 if at_base.fan_in else None,
        at_base.own_multiplier,
        at_base.init_exponent,
        at_base.factor,
        keeps_draw=parameters.keeps_draw,
        in_block=at_base.in_block,
        is_tied_readout=at_base.is_tied_readout,
        own_output_multiplier=at_base.own_output_multiplier,
        output_factor=at_base.output_factor,
    )
    return base, (there,)


def _measured(quantity: QuantityName, found: list[Deviation]) -> Measure:
    worst = max(found, key=lambda deviation: deviation.share)
    wrong = [str(deviation) for deviation in found if deviation.share > CLOSE]
    more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
    sentence = "; ".join(wrong[:SHOWN]) + more
    return _exact(
        quantity,
        worst.share,
        sentence or f"{quantity} of all {len(found)} patterns and roles is what the rule gives",
    )


def _exact(quantity: str, share: float, sentence: str) -> Measure:
    return Measure(
        quantity=f"{quantity}: {BY_RULE}",
        unit="",
        value=share,
        low=share,
        high=share,
        expected=0.0,
        tolerance=CLOSE,
        verdict="pass" if share <= CLOSE else "fail",
        sentence=sentence,
    )


def _findings(recipe: Recipe) -> Iterator[str]:
    """Faults of the file that show without a rule."""
    name = str((recipe.optimizer or {}).get("name"))
    seen: dict[str, Role] = {}
    for role, values in recipe.roles.items():
        wanted = "adamw" if name == "muon" and role != "hidden" else name
        if values.optimizer != wanted:
            yield f"roles.{role}.optimizer is {values.optimizer}; under {name} it is {wanted}"
        for parameters in values.parameters:
            other = seen.setdefault(parameters.pattern, role)
            if other != role:
                yield (
                    f"{parameters.pattern} is claimed by {other} and by {role}; every parameter "
                    "has one role"
                )
