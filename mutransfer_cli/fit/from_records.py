"""From a fit to the exponents file."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

import pandas as pd

from mutransfer_cli import __version__
from mutransfer_cli.fit import exponents as file
from mutransfer_cli.fit.axes import SweepFit, fit_axes
from mutransfer_cli.fit.breakers import horizon_of, short_horizon
from mutransfer_cli.fit.decay import Convention, DecayFit, Ridge
from mutransfer_cli.fit.exponents import EXPONENTS_SCHEMA, Exponents, Interval
from mutransfer_cli.fit.result import LEVEL, Bowl, Fit, Law
from mutransfer_cli.rules.plan import AXES, AxisName
from mutransfer_cli.rules.rule import Rule
from mutransfer_cli.spec.protocol import DeclaredProtocol, Protocol
from mutransfer_cli.spec.records import BaseParameterRecord, Records, Status
from mutransfer_cli.spec.tables import trial_frame


def exponents_of_records(
    records: Records,
    metric: str = "eval_loss",
    scatter_below: float | None = None,
    resamples: int = 0,
) -> tuple[Exponents, pd.DataFrame]:
    """The exponents of a sweep, and the trials with the loss they are fitted to as eval_loss.

    Args:
        metric: eval_loss or train_loss.
    """
    header, trials = records.header, trial_frame(records.trials)
    if metric == "train_loss":
        trials = trials.drop(columns="eval_loss").rename(columns={"train_loss": "eval_loss"})
    convention = header.protocol.parameterization.decay_convention
    fits = fit_axes({"": trials}, AXES, convention, "eval_loss", scatter_below, resamples)
    counts = Counter(record.status for record in records.trials)
    document = exponents_of(
        metric,
        {"ok": counts["ok"], "diverged": counts["diverged"], "failed": counts["failed"]},
        fits,
        header.protocol,
        base_plan=header.base_plan,
        convention=convention,
        weight_decay={"": held_decay(trials)},
    )
    return document, trials


def held_decay(trials: pd.DataFrame) -> float | None:
    """The one weight decay of all trials; None where it varies or has no column."""
    if "weight_decay" not in trials or trials["weight_decay"].nunique() != 1:
        return None
    return float(trials["weight_decay"].iloc[0])


def exponents_of(
    metric: str,
    trials: Mapping[Status, int],
    fits: Mapping[str, SweepFit],
    protocol: Protocol | DeclaredProtocol | None,
    by: str | None = None,
    base_plan: tuple[BaseParameterRecord, ...] = (),
    convention: Convention | None = None,
    weight_decay: Mapping[str, float | None] | None = None,
) -> Exponents:
    """
    Args:
        trials: how many there are of each status.
        fits: by group; without `by` there is one.
        convention: of weight decays; None where it is not known.
        weight_decay: of all trials of a group; None where it varies or is not known.
    """
    held = weight_decay or {}
    groups = {name: _group(fit, protocol, held.get(name)) for name, fit in fits.items()}
    alone = None if by else next(iter(groups.values()))
    return Exponents(
        schema_=EXPONENTS_SCHEMA,
        tool_version=__version__,
        metric=metric,
        axes=alone.axes if alone else {},
        decay=alone.decay if alone else None,
        groups={} if alone else groups,
        trials=dict(trials),
        protocol_hash=protocol and protocol.hash,
        protocol=protocol,
        base_plan=base_plan,
        decay_convention=convention,
        weight_decay=alone.weight_decay if alone else None,
    )


def _group(
    fit: SweepFit, protocol: Protocol | DeclaredProtocol | None, weight_decay: float | None
) -> file.Group:
    rule = protocol.rule if protocol else None
    decay = None
    axes = {
        cast(AxisName, name): axis_of(one, _expected(cast(AxisName, name), rule))
        for name, one in fit.axes.items()
    }
    if fit.decay is not None:
        decay = _decay(fit.decay, protocol)
        warnings = axes["weight_decay"].warnings | short_horizon(decay.horizon)
        axes["weight_decay"] = axes["weight_decay"].model_copy(update={"warnings": warnings})
    return file.Group(axes=axes, decay=decay, weight_decay=weight_decay)


def _decay(fit: DecayFit, protocol: Protocol | DeclaredProtocol | None) -> file.Decay:
    return file.Decay(
        product=axis_of(fit.product, None) if fit.product else None,
        ridge=fit.ridge and _ridge(fit.ridge),
        without_decay={
            width: file.WithoutDecay(**asdict(best)) for width, best in fit.without_decay.items()
        },
        horizon=horizon_of(protocol, *fit.best) if protocol and fit.best else None,
    )


def _ridge(ridge: Ridge) -> file.RidgeShape:
    return file.RidgeShape(
        angle=ridge.angle,
        angle_error=ridge.angle_error,
        product_only=ridge.product_only,
        exponent=_interval(ridge.across, ridge.across.half_width),
    )


def _expected(axis: AxisName, rule: Rule | None) -> float | None:
    """Under one global rate the roles drift apart, and how their factors move is not derived."""
    if rule is None:
        return None
    if axis == "lr":
        return float(rule.expected_base_lr_exponent)
    return 0.0 if axis == "weight_decay" or rule.lr_rule == "per_layer" else None


def axis_of(fit: Fit, expected: float | None) -> file.Axis:
    residuals = fit.residuals
    return file.Axis(
        status=fit.status,
        sentence=fit.sentence,
        **(_law(fit.law) if fit.law else dict.fromkeys(_LAW_KEYS)),
        expected_exponent=expected,
        warnings=fit.warnings,
        optimum={w: _optimum(bowl, residuals.get(w)) for w, bowl in fit.bowls.items()},
    )


_LAW_KEYS = (
    "exponent",
    "law_interval",
    "measurement_interval",
    "form_spread",
    "without_largest",
    "line",
    "prediction",
)


def _law(law: Law) -> dict[str, Any]:
    """The part of an axis that a law gives."""
    return {
        "exponent": _interval(law, law.half_width),
        "law_interval": _interval(law, law.law_half_width),
        "measurement_interval": _interval(law, law.measurement_half_width),
        "form_spread": law.form_spread,
        "form_interval": law.form_interval,
        "without_largest": law.without_largest,
        "line": file.Line(
            width=2**law.centre,
            value=2**law.value,
            low=2 ** (law.value - law.value_half_width),
            high=2 ** (law.value + law.value_half_width),
            scatter=law.scatter,
        ),
        "prediction": file.Prediction(
            width=2**law.future_centre,
            half_width=law.future_half_width,
            per_octave=law.future_per_octave,
            quantile=law.future_quantile,
        ),
        "forms": law.forms
        and file.Forms(
            width=2**law.forms.centre,
            value=2**law.forms.value,
            exponent=law.forms.exponent,
            bend=law.forms.bend,
            bend_error=law.forms.bend_error,
            limit=2**law.forms.limit,
            drift=law.forms.drift,
            drift_error=law.forms.drift_error,
        ),
        "assumed_scatter": law.assumed_scatter,
    }


def _interval(law: Law, half_width: float) -> Interval:
    x = law.exponent
    return Interval(value=x, low=x - half_width, high=x + half_width, level=LEVEL)


def _optimum(bowl: Bowl, residual: float | None) -> file.Optimum:
    return file.Optimum(
        value=_natural(bowl.optimum),
        low=_natural(bowl.low),
        high=_natural(bowl.high),
        status=bowl.status,
        side=bowl.side,
        loss=bowl.loss,
        form=bowl.form,
        curvature=bowl.curvature,
        tilt=bowl.tilt,
        residual=residual,
    )


def _natural(log2_value: float | None) -> float | None:
    return None if log2_value is None else 2.0**log2_value


def statuses(losses: list[float]) -> dict[Status, int]:
    """Counts of own results, whose diverged runs have loss NaN."""
    diverged = sum(math.isnan(loss) for loss in losses)
    return {"ok": len(losses) - diverged, "diverged": diverged, "failed": 0}
