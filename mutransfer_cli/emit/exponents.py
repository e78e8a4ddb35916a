"""From a fit to the exponents file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from mutransfer_cli import __version__
from mutransfer_cli.files.exponents import (
    EXPONENTS_SCHEMA,
    Axis,
    Exponents,
    Interval,
    Line,
    Optimum,
)
from mutransfer_cli.files.records import Records
from mutransfer_cli.fit.bowl import Bowl
from mutransfer_cli.fit.exponent import Fit
from mutransfer_cli.rules.plan import AxisName
from mutransfer_cli.rules.rule import Rule


def exponents_of(records: Records, fits: Mapping[AxisName, Fit]) -> Exponents:
    header = records.header
    rule = header.protocol.rule
    counts = Counter(record.status for record in records.trials)
    return Exponents.model_validate(
        {
            "schema": EXPONENTS_SCHEMA,
            "tool_version": __version__,
            "metric": "eval_loss",
            "axes": {axis: _axis(fit, _expected(axis, rule)) for axis, fit in fits.items()},
            "trials": {status: counts[status] for status in ("ok", "diverged", "failed")},
            "protocol_hash": header.protocol_hash,
            "protocol": header.protocol,
            "base_plan": header.base_plan,
        }
    )


def _expected(axis: AxisName, rule: Rule) -> float | None:
    """Under one global rate the roles drift apart, and how their factors move is not derived."""
    if axis == "lr":
        return float(rule.expected_base_lr_exponent)
    return 0.0 if rule.lr_rule == "per_layer" else None


def _axis(fit: Fit, expected: float | None) -> Axis:
    exponent, line = None, None
    if fit.law is not None:
        law = fit.law
        exponent = Interval(
            value=law.exponent,
            low=law.exponent - law.half_width,
            high=law.exponent + law.half_width,
            level=fit.level,
        )
        line = Line(
            width=2**law.centre,
            value=2**law.value,
            low=2 ** (law.value - law.value_half_width),
            high=2 ** (law.value + law.value_half_width),
            scatter=law.scatter,
        )
    return Axis(
        status=fit.status,
        sentence=fit.sentence,
        exponent=exponent,
        expected_exponent=expected,
        line=line,
        optimum={width: _optimum(bowl) for width, bowl in fit.bowls.items()},
    )


def _optimum(bowl: Bowl) -> Optimum:
    return Optimum(
        value=_natural(bowl.optimum),
        low=_natural(bowl.low),
        high=_natural(bowl.high),
        status=bowl.status,
        side=bowl.side,
        curvature=bowl.curvature,
    )


def _natural(log2_value: float | None) -> float | None:
    return None if log2_value is None else 2.0**log2_value
