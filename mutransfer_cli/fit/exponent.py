"""The fit of one hyperparameter: tables of trials in, optima and exponent with intervals out.

Shapes: G sweeps at once, K widths.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd

from mutransfer_cli.errors import InputError, InsufficientEvidence
from mutransfer_cli.fit import sentences as say
from mutransfer_cli.fit.arrays import LEVEL, Array, Mask, t_quantile
from mutransfer_cli.fit.bad_runs import left_out, settle
from mutransfer_cli.fit.bowls import Bowls
from mutransfer_cli.fit.cells import Cells, cells_of
from mutransfer_cli.fit.exponents import Axis, Interval, Line, Prediction
from mutransfer_cli.fit.forms import MIN_WIDTHS_OF_FORMS, FormPrediction, Forms
from mutransfer_cli.fit.judge import Judgements
from mutransfer_cli.fit.law import (
    MIN_WIDTHS,
    LawFit,
    Laws,
    fit_forms,
    fit_laws,
    laws_where,
    plain_slope,
)
from mutransfer_cli.fit.optimum import LeftOut, Optimum
from mutransfer_cli.fit.scatter import assume_scatter, form_interval
from mutransfer_cli.fit.table import prepared, profile
from mutransfer_cli.spec.rounding import merged

NO_LAW = (
    "exponent",
    "law_interval",
    "measurement_interval",
    "form_spread",
    "without_largest",
    "line",
    "prediction",
)


def fit_exponents(
    trials: pd.DataFrame,
    axis: str = "lr",
    others: Sequence[str] = (),
    loss: str = "loss",
    scatter_below: float | None = None,
    resamples: int = 0,
) -> Axis:
    """Fit log2 optimum of `axis` against log2 width.

    Args:
        trials: one row per trial with columns `width`, `axis` (positive) and `loss` (nats; NaN or
            infinite for a diverged trial), and `seed` where there are several. Rows that repeat
            all of these are replicates; values that differ by rounding are one.
        others: columns of further axes; at each value of `axis` the best of them counts.
        loss: the column of losses.
        scatter_below: assumed bound on the scatter between widths, octaves; learned from the
            widths when None.
        resamples: draws of the losses behind the interval of the form spread.

    Raises:
        InputError: a missing column, a value of `axis` without logarithm, or a weight decay that
            varies and is neither `axis` nor among `others`.
        InsufficientEvidence: no trial at all. Too little evidence otherwise is a status.
    """
    refuse_unusable(trials, axis, others, loss, scatter_below)
    return fit_groups({"": trials}, axis, others, loss, scatter_below, resamples)[""]


def refuse_unusable(
    trials: pd.DataFrame, axis: str, others: Sequence[str], loss: str, scatter_below: float | None
) -> None:
    """Raise InputError for a table that `fit_exponents` cannot read."""
    for column in ("width", axis, loss, *others):
        if column not in trials:
            raise InputError(f"no column {column!r}; there are {', '.join(map(str, trials))}")
    for column in ("width", axis):
        if not ((trials[column] > 0) & np.isfinite(trials[column])).all():
            raise InputError(f"{column}: expected positive, finite numbers in every row")
    if scatter_below is not None and not 0 < scatter_below < np.inf:
        raise InputError(f"scatter_below {scatter_below:g}: expected a positive number of octaves")
    other = {"weight_decay"} - {axis, *others}
    if other & set(trials.columns) and merged(trials["weight_decay"]).nunique() > 1:
        raise InputError("weight_decay varies: name it in `others`, or fit it with fit_decay")


def fit_groups(
    groups: Mapping[str, pd.DataFrame],
    axis: str = "lr",
    others: Sequence[str] = (),
    loss: str = "loss",
    scatter_below: float | None = None,
    resamples: int = 0,
) -> dict[str, Axis]:
    """Fit each group on its own; those with the same number of widths are computed together.

    Raises:
        InsufficientEvidence: a group without trials.
    """
    tables, warnings = prepared(groups, [axis, *others], loss)
    found: dict[str, Axis] = {}
    for stack in by_widths(tables).values():
        profiled = [profile(trials, [axis], others, loss) for trials in stack.values()]
        fits = fit_sweeps(cells_of(profiled, axis, loss), axis, scatter_below, resamples)
        found |= zip(stack, fits, strict=True)
    return {name: found[name].warned(warnings[name]) for name in groups}


def by_widths(groups: Mapping[str, pd.DataFrame]) -> dict[int, dict[str, pd.DataFrame]]:
    """Collect the groups with the same number of widths, which can be stacked.

    Raises:
        InsufficientEvidence: a group without trials.
    """
    stacks: dict[int, dict[str, pd.DataFrame]] = {}
    for name, trials in groups.items():
        if trials.empty:
            where = name or "the input"
            raise InsufficientEvidence(f"{where}: no trial that ran; train some first")
        stacks.setdefault(trials["width"].nunique(), {})[name] = trials
    return stacks


def fit_sweeps(
    cells: Cells, axis: str, scatter_below: float | None = None, resamples: int = 0
) -> list[Axis]:
    """Fit stacked sweeps, all at once."""
    # cells without broken runs, then the optimum of every width, then its status
    scaled, level_G, unit_G = cells.normalised()
    settled, bad_GKCS = settle(scaled)
    kept, noise_G, bowls, judged = settled.cells, settled.first_noise, settled.bowls, settled.judged
    used_GK, u_GK = judged.ok, cells.log2_width
    # the law of the optima; in narrower windows too, to see how much the bowls' form matters
    errors = (bowls.covariance, bowls.freedom)
    line = law_fit(scatter_below)
    enough_G = used_GK.sum(1) >= MIN_WIDTHS
    laws = laws_where(enough_G, used_GK, u_GK, bowls.optimum, *errors, line)
    narrow = laws_where(enough_G, used_GK, u_GK, bowls.narrow, *errors, line)
    drift_G, error_G = plain_slope(u_GK, bowls.tilt, bowls.tilt_covariance, used_GK)
    shown = in_units(bowls, level_G, unit_G)
    not_fitted, found = left_out(cells, kept, bad_GKCS, shown), []
    for g, enough in enumerate(enough_G):
        law: dict[str, Any] | None = None
        if enough:
            used_K, covariance_KK = used_GK[g], bowls.covariance[g]
            law = law_parts(laws, g, scatter_below)
            law["form_spread"] = float(laws.exponent[g]) - float(narrow.exponent[g])
            law["forms"] = forms_of(used_K, u_GK[g], bowls.optimum[g], covariance_KK, laws, g)
            if resamples:
                scatter = float(laws.scatter[g])
                at = (noise_G, g, used_K, scatter, resamples)
                law["form_interval"] = form_interval(kept, bowls, *at)
        optimum, details = _optima(kept, shown, judged, laws, g)
        details = replace(
            details,
            drift=(float(drift_G[g]), float(error_G[g])),
            left_out=not_fitted[g],
        )
        found.append(axis_of(axis, optimum, law, details))
    return found


def law_fit(scatter_below: float | None) -> LawFit:
    """The line across widths: with scatter learned, or assumed to lie below so many octaves."""
    return fit_laws if scatter_below is None else partial(assume_scatter, bound=scatter_below)


def law_parts(laws: Laws, g: int, scatter_below: float | None) -> dict[str, Any]:
    """The fields of an Axis that one sweep's law gives."""
    law = {name: float(values_G[g]) for name, values_G in vars(laws).items()}
    shorter, value, half_width = law["without_largest"], law["value"], law["value_half_width"]
    return {
        "exponent": interval_of(law["exponent"], law["half_width"]),
        "law_interval": interval_of(law["exponent"], law["law_half_width"]),
        "measurement_interval": interval_of(law["exponent"], law["measurement_half_width"]),
        "form_spread": None,
        "without_largest": None if math.isnan(shorter) else shorter,
        "line": Line(
            width=2 ** law["centre"],
            value=2**value,
            low=2 ** (value - half_width),
            high=2 ** (value + half_width),
            scatter=law["scatter"],
        ),
        "prediction": Prediction(
            width=2 ** law["future_centre"],
            half_width=law["future_half_width"],
            per_octave=law["future_per_octave"],
            quantile=law["future_quantile"],
        ),
        "assumed_scatter": scatter_below,
    }


def interval_of(value: float, half_width: float) -> Interval:
    return Interval(value=value, low=value - half_width, high=value + half_width, level=LEVEL)


def forms_of(
    used_K: Mask, u_K: Array, y_K: Array, covariance_KK: Array, laws: Laws, g: int
) -> Forms | None:
    """The forms beside the line of one sweep; None with fewer than five usable widths."""
    if used_K.sum() < MIN_WIDTHS_OF_FORMS:
        return None
    covariance_GKK = covariance_KK[np.ix_(used_K, used_K)][None]
    fits = fit_forms(u_K[used_K][None], y_K[used_K][None], covariance_GKK, laws.scatter[[g]])
    form = {name: values_G[0].tolist() for name, values_G in vars(fits).items()}
    form["width"] = 2 ** form.pop("centre")
    for name in ("value", "limit"):
        form[name] = 2 ** form[name]
    for name, coefficients in (("curved", 3), ("saturating", 2)):
        squares = form.pop(f"{name}_squares")
        if not math.isnan(squares[0]):
            quantile = float(t_quantile(used_K.sum() - coefficients))
            form[f"{name}_prediction"] = FormPrediction(quantile=quantile, squares=squares)
    return Forms(**form)


def in_units(bowls: Bowls, level_G: Array, unit_G: Array) -> Bowls:
    """Convert losses, and losses per power of octaves, back to the unit of the losses."""
    by = unit_G[:, None]
    return replace(
        bowls,
        loss=level_G[:, None] + by * bowls.loss,
        noise=by * bowls.noise,
        curvature=by * bowls.curvature,
        quartic=by * bowls.quartic,
    )


@dataclass(frozen=True)
class Details:
    """Numbers for the warnings of a fit that its result does not hold."""

    counts: dict[int, int]
    """Usable cells by width."""
    noise: dict[int, float] = field(default_factory=dict)
    """Sd of a cell's mean loss by width; empty without losses."""
    near_edge: tuple[int, ...] = ()
    """Widths whose optimum lies less than an octave from an end of the grid."""
    left_out: tuple[LeftOut, ...] = ()
    """Runs that were not fitted."""
    drift: tuple[float, float] = (0.0, 0.0)
    """Change of the tilt per doubling of width, and its standard error."""


def axis_of(
    name: str, optimum: dict[int, Optimum], law: dict[str, Any] | None, details: Details
) -> Axis:
    """The result with its sentence and warnings; insufficient without a law."""
    edges = say.edge_warnings(name, details.near_edge)
    edges |= say.left_out_warnings(name, details.left_out)
    if law is None:
        sentence = say.why_insufficient(name, optimum, details.counts)
        axis = without_law("insufficient", sentence, edges, optimum)
        return axis.model_copy(update={"left_out": details.left_out})
    usable = sum(at.status == "ok" for at in optimum.values())
    axis = Axis(
        status="ok",
        sentence=say.law_sentence(name, law["exponent"], usable),
        **law,
        expected_exponent=None,
        warnings=edges,
        left_out=details.left_out,
        optimum=optimum,
    )
    return axis.warned(
        say.scatter_warnings(axis)
        | say.drift_warnings(name, *details.drift)
        | say.bend_warnings(name, axis)
        | say.loss_warnings(optimum, details.noise)
        | say.sign_warnings(name, axis)
    )


def without_law(
    status: Literal["insufficient", "ridge"],
    sentence: str,
    warnings: dict[str, str],
    optimum: dict[int, Optimum],
) -> Axis:
    """The result where no exponent can be given."""
    return Axis(
        status=status,
        sentence=sentence,
        **dict.fromkeys(NO_LAW),
        expected_exponent=None,
        warnings=warnings,
        optimum=optimum,
    )


def unusable(status: str, side: str = "", **rest: Any) -> Optimum:
    """An optimum that is not ok; side is empty unless the status is `not_bracketed`."""
    known: dict[str, Any] = {"status": status, "side": side or None}
    return Optimum(**known, value=None, low=None, high=None, **rest)


def optimum_of(log2_value: float, log2_low: float, log2_high: float, **rest: Any) -> Optimum:
    """A usable optimum from octaves."""
    low, value, high = 2.0**log2_low, 2.0**log2_value, 2.0**log2_high
    return Optimum(status="ok", low=low, value=value, high=high, **rest)


def _optima(
    cells: Cells, bowls: Bowls, judged: Judgements, laws: Laws, g: int
) -> tuple[dict[int, Optimum], Details]:
    """The optima of one sweep by width, and the details behind its warnings.

    Args:
        bowls: in the unit of the losses.
    """
    optimum: dict[int, Optimum] = {}
    widths = [round(2**u) for u in cells.log2_width[g]]
    for k, width in enumerate(widths):
        seen = judged.status[g, k] != "too_few_points"
        rest: dict[str, Any] = {
            "curvature": float(bowls.curvature[g, k]) if seen else None,
            "tilt": float(bowls.tilt[g, k]) if seen else None,
            "quartic": float(bowls.quartic[g, k]) or None if seen else None,
        }
        if not judged.ok[g, k]:
            reason = str(judged.status[g, k]), str(judged.side[g, k])
            optimum[width] = unusable(*reason, **rest)
            continue
        at = float(bowls.optimum[g, k])
        optimum[width] = optimum_of(
            at,
            float(judged.low[g, k]),
            float(judged.high[g, k]),
            loss=float(bowls.loss[g, k]),
            form=abs(at - float(bowls.narrow[g, k])),
            residual=laws.residual(g, width, at),
            **rest,
        )
    return optimum, Details(
        counts=dict(zip(widths, cells.count[g].astype(int).tolist(), strict=True)),
        noise=dict(zip(widths, bowls.noise[g].tolist(), strict=True)),
        near_edge=tuple(w for w, near in zip(widths, judged.near_edge[g], strict=True) if near),
    )
