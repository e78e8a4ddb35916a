"""From a fit to the exponents file."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import get_args

from mutransfer_cli import __version__
from mutransfer_cli.files.exponents import (
    EXPONENTS_SCHEMA,
    Axis,
    Exponents,
    Group,
    Interval,
    Line,
    Optimum,
    Prediction,
)
from mutransfer_cli.files.records import Records, Status
from mutransfer_cli.fit.exponent import Bowl, Fit, Law
from mutransfer_cli.rules.plan import AxisName
from mutransfer_cli.rules.rule import Rule

STATUSES: tuple[Status, ...] = get_args(Status)


def exponents_of(records: Records, fits: Mapping[AxisName, Fit]) -> Exponents:
    """The fits of a sweep's own records."""
    header, rule = records.header, records.header.protocol.rule
    counts = Counter(record.status for record in records.trials)
    return Exponents(
        schema_=EXPONENTS_SCHEMA,
        tool_version=__version__,
        metric="eval_loss",
        axes={axis: _axis(fit, _expected(axis, rule)) for axis, fit in fits.items()},
        trials={status: counts[status] for status in STATUSES},
        protocol_hash=header.protocol_hash,
        protocol=header.protocol,
        base_plan=header.base_plan,
    )


def exponents_of_table(
    metric: str,
    losses: Sequence[float],
    fits: Mapping[str, Mapping[AxisName, Fit]],
    by: str | None,
) -> Exponents:
    """The fits of a user's own results, of which no rule is known.

    Args:
        losses: of all rows, NaN for a diverged run.
        fits: by group; without `by` there is one.
    """
    diverged = sum(math.isnan(loss) for loss in losses)
    groups = {
        name: Group(axes={axis: _axis(fit, None) for axis, fit in group.items()})
        for name, group in fits.items()
    }
    return Exponents(
        schema_=EXPONENTS_SCHEMA,
        tool_version=__version__,
        metric=metric,
        axes={} if by else next(iter(groups.values())).axes,
        groups=groups if by else {},
        trials={"ok": len(losses) - diverged, "diverged": diverged, "failed": 0},
        protocol_hash=None,
        protocol=None,
        base_plan=(),
    )


def _expected(axis: AxisName, rule: Rule) -> float | None:
    """Under one global rate the roles drift apart, and how their factors move is not derived."""
    if axis == "lr":
        return float(rule.expected_base_lr_exponent)
    return 0.0 if rule.lr_rule == "per_layer" else None


def _axis(fit: Fit, expected: float | None) -> Axis:
    law = fit.law
    return Axis(
        status=fit.status,
        sentence=fit.sentence,
        exponent=law and _interval(fit, law, law.half_width),
        law_interval=law and _interval(fit, law, law.law_half_width),
        measurement_interval=law and _interval(fit, law, law.measurement_half_width),
        form_spread=law and law.form_spread,
        without_largest=law and law.without_largest,
        expected_exponent=expected,
        line=law and _line(law),
        prediction=law
        and Prediction(
            width=2**law.future_centre,
            half_width=law.future_half_width,
            per_octave=law.future_per_octave,
            quantile=law.future_quantile,
        ),
        warnings=fit.warnings,
        optimum={width: _optimum(bowl) for width, bowl in fit.bowls.items()},
    )


def _interval(fit: Fit, law: Law, half_width: float) -> Interval:
    x = law.exponent
    return Interval(value=x, low=x - half_width, high=x + half_width, level=fit.level)


def _line(law: Law) -> Line:
    return Line(
        width=2**law.centre,
        value=2**law.value,
        low=2 ** (law.value - law.value_half_width),
        high=2 ** (law.value + law.value_half_width),
        scatter=law.scatter,
    )


def _optimum(bowl: Bowl) -> Optimum:
    return Optimum(
        value=_natural(bowl.optimum),
        low=_natural(bowl.low),
        high=_natural(bowl.high),
        status=bowl.status,
        side=bowl.side,
        loss=bowl.loss,
        form=bowl.form,
        curvature=bowl.curvature,
        tilt=bowl.tilt,
    )


def _natural(log2_value: float | None) -> float | None:
    return None if log2_value is None else 2.0**log2_value
