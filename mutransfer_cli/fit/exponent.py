"""The fit of one axis: tables of trials in, optima and exponent with intervals out.

MERGED:
Exponents from optima without losses: best points of grids, whose spacing is their error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from mutransfer_cli.errors import InputError, InsufficientEvidence
from mutransfer_cli.fit.bowls import Bowls, fit_bowls
from mutransfer_cli.fit.cells import SAME, Cells, broken, cells_of, first_noise, profile
from mutransfer_cli.fit.judge import BowlStatus, Judgements, Side, judge
from mutransfer_cli.fit.law import (
    MIN_WIDTHS,
    MIN_WIDTHS_OF_FORMS,
    LawFit,
    Laws,
    fit_forms,
    fit_laws,
    laws_where,
    plain_slope,
)
from mutransfer_cli.fit.result import LEVEL, Bowl, Fit, Forms, Law, warned
from mutransfer_cli.fit.scatter import assume_scatter, form_interval
from mutransfer_cli.fit.sentences import edge_warnings, law_sentence, law_warnings, why_insufficient

Array = npt.NDArray[np.float64]


def fit_exponents(
    trials: pd.DataFrame,
    axis: str = "lr",
    others: Sequence[str] = (),
    loss: str = "loss",
    scatter_below: float | None = None,
    resamples: int = 0,
) -> Fit:
    """Fits log2 optimum of `axis` against log2 width.

    Args:
        trials: one row a trial with columns `width`, `axis` (positive) and `loss` (nats; NaN or
            infinite for a diverged trial), and `seed` where there are several. Rows that repeat
            all of these are replicates.
        others: columns of further axes; at each value of `axis` the best of them counts.
        loss: the column of losses.
        scatter_below: octaves below which the scatter between widths is assumed to lie; learned
            from the widths when None.
        resamples: draws of the losses behind the interval of the form spread.

    Raises:
        InputError: a missing column, a value of `axis` without logarithm, a weight decay that
            varies and is neither `axis` nor among `others`.
        InsufficientEvidence: no trial at all. Too little evidence otherwise is a status.
    """
    refuse_unusable(trials, axis, others, loss, scatter_below)
    return fit_groups({"": trials}, axis, others, loss, scatter_below, resamples)[""]


def refuse_unusable(
    trials: pd.DataFrame, axis: str, others: Sequence[str], loss: str, scatter_below: float | None
) -> None:
    """Raises what `fit_exponents` does for input that is no evidence at all."""
    for column in ("width", axis, loss, *others):
        if column not in trials:
            raise InputError(f"no column {column!r}; there are {', '.join(map(str, trials))}")
    for column in ("width", axis):
        if not ((trials[column] > 0) & np.isfinite(trials[column])).all():
            raise InputError(f"{column}: expected positive, finite numbers in every row")
    if scatter_below is not None and not 0 < scatter_below < np.inf:
        raise InputError(f"scatter_below {scatter_below:g}: expected a positive number of octaves")
    other = {"weight_decay"} - {axis, *others}
    if other & set(trials.columns) and trials["weight_decay"].nunique() > 1:
        raise InputError("weight_decay varies: name it in `others`, or fit it with fit_decay")


def fit_groups(
    groups: Mapping[str, pd.DataFrame],
    axis: str = "lr",
    others: Sequence[str] = (),
    loss: str = "loss",
    scatter_below: float | None = None,
    resamples: int = 0,
) -> dict[str, Fit]:
    """The fit of each group on its own; those with as many widths are computed together.

    Raises:
        InsufficientEvidence: a group without trials.
    """
    found: dict[str, Fit] = {}
    for stack in by_widths(groups).values():
        profiled = [profile(trials, [axis], others, loss) for trials in stack.values()]
        fits = fit_sweeps(cells_of(profiled, axis, loss), axis, scatter_below, resamples)
        found |= zip(stack, fits, strict=True)
    return {name: found[name] for name in groups}


def by_widths(groups: Mapping[str, pd.DataFrame]) -> dict[int, dict[str, pd.DataFrame]]:
    """Groups by their number of widths: what can be stacked.

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
) -> list[Fit]:
    """The fits of stacked sweeps, all at once."""
    scaled, level, unit = cells.normalised()
    noise = first_noise(scaled)
    kept = scaled.without(broken(scaled, noise))
    bowls = fit_bowls(kept, noise)
    judged = judge(kept, bowls, LEVEL)
    laws = laws_of(
        judged.ok, cells.log2_width, bowls.optimum, bowls.covariance, bowls.freedom, scatter_below
    )
    laws = with_shape(laws, judged.ok, cells.log2_width, bowls, law_fit(scatter_below))
    for g, law in enumerate(laws):
        if law and resamples:
            drawn = form_interval(kept, bowls, noise, g, judged.ok[g], law.scatter, resamples)
            laws[g] = replace(law, form_interval=drawn)
    shown = in_units(bowls, level, unit)
    return [fit_of(axis, _bowls(kept, shown, judged, g), law) for g, law in enumerate(laws)]


def law_fit(scatter_below: float | None) -> LawFit:
    """The line across widths: with scatter learned, or assumed to lie below so many octaves."""
    if scatter_below is None:
        return partial(fit_laws, level=LEVEL)
    return partial(assume_scatter, bound=scatter_below, level=LEVEL)


def laws_of(
    used: npt.NDArray[np.bool_],
    log2_width: Array,
    optimum: Array,
    covariance: Array,
    freedom: Array,
    scatter_below: float | None,
) -> list[Law | None]:
    """The law of each sweep [G] through its used widths [G, K]; None with too few of them."""
    enough, widths = used.sum(1) >= MIN_WIDTHS, used.sum(1)
    at = (log2_width, optimum, covariance, freedom)
    laws = laws_where(enough, used, *at, law_fit(scatter_below))
    return [
        law_of(laws, g, int(widths[g]), scatter_below) if enough[g] else None
        for g in range(len(used))
    ]


def law_of(laws: Laws, g: int, widths: int, scatter_below: float | None) -> Law:
    """One sweep's row of `laws`."""
    row: dict[str, Any] = {f.name: float(getattr(laws, f.name)[g]) for f in fields(laws)}
    if np.isnan(row["without_largest"]):
        row["without_largest"] = None
    return Law(**row, widths=widths, assumed_scatter=scatter_below)


def fit_of(axis: str, bowls: dict[int, Bowl], law: Law | None) -> Fit:
    """The fit with its sentences."""
    edges = edge_warnings(axis, bowls)
    if law is None:
        return Fit(axis, "insufficient", why_insufficient(axis, bowls), bowls, None, edges)
    warnings = edges | law_warnings(axis, bowls, law)
    return Fit(axis, "ok", law_sentence(axis, law), bowls, law, warnings)


def with_shape(
    laws: Sequence[Law | None],
    used: npt.NDArray[np.bool_],
    log2_width: Array,
    bowls: Bowls,
    fit: LawFit,
) -> list[Law | None]:
    """The laws, with what the shapes of the bowls and further forms say of them."""
    enough = used.sum(1) >= MIN_WIDTHS
    parabola = laws_where(
        enough, used, log2_width, bowls.parabola, bowls.covariance, bowls.freedom, fit
    )
    drift, error = plain_slope(log2_width, bowls.tilt, bowls.tilt_covariance, used)
    return [
        law
        and replace(
            law,
            form_spread=law.exponent - float(parabola.exponent[g]),
            tilt_drift=float(drift[g]),
            tilt_drift_error=float(error[g]),
            forms=forms_of(used[g], log2_width[g], bowls.optimum[g], bowls.covariance[g], law),
        )
        for g, law in enumerate(laws)
    ]


def forms_of(
    used: npt.NDArray[np.bool_], log2_width: Array, optimum: Array, covariance: Array, law: Law
) -> Forms | None:
    """Of one sweep, [K]; None with fewer than five usable widths."""
    if law.widths < MIN_WIDTHS_OF_FORMS:
        return None
    at = (log2_width[used], optimum[used], covariance[np.ix_(used, used)], np.array(law.scatter))
    forms = fit_forms(*(values[None] for values in at))
    return Forms(**{field.name: float(getattr(forms, field.name)[0]) for field in fields(Forms)})


def in_units(bowls: Bowls, level: Array, unit: Array) -> Bowls:
    """What is a loss, or a loss per octave^2, back in the unit of the losses."""
    by = unit[:, None]
    return replace(
        bowls,
        loss=level[:, None] + by * bowls.loss,
        noise=by * bowls.noise,
        curvature=by * bowls.curvature,
    )


def _bowls(cells: Cells, bowls: Bowls, judged: Judgements, g: int) -> dict[int, Bowl]:
    found = {}
    for k, log2_width in enumerate(cells.log2_width[g]):
        ok = bool(judged.ok[g, k])
        seen = judged.status[g, k] != "too_few_points"
        found[round(2**log2_width)] = Bowl(
            status=cast(BowlStatus, str(judged.status[g, k])),
            side=cast(Side, str(judged.side[g, k])) if judged.side[g, k] else None,
            optimum=float(bowls.optimum[g, k]) if ok else None,
            low=float(judged.low[g, k]) if ok else None,
            high=float(judged.high[g, k]) if ok else None,
            loss=float(bowls.loss[g, k]) if ok else None,
            noise=float(bowls.noise[g, k]),
            curvature=float(bowls.curvature[g, k]) if seen else None,
            tilt=float(bowls.tilt[g, k]) if seen else None,
            form=float(abs(bowls.optimum[g, k] - bowls.parabola[g, k])) if ok else None,
            near_edge=bool(judged.near_edge[g, k]),
            n=int(cells.count[g, k]),
        )
    return found


def compared(fit: Fit, by_train_loss: Fit) -> Fit:
    """The fit, with a warning where the training loss has its optimum elsewhere.

    Elsewhere: the two intervals of a width do not touch.
    """
    apart = []
    for width, bowl in fit.bowls.items():
        other = by_train_loss.bowls[width]
        if bowl.low is None or bowl.high is None or other.low is None or other.high is None:
            continue
        if bowl.high < other.low or other.high < bowl.low:
            apart.append(str(width))
    if not apart:
        return fit
    sentence = (
        f"at width {', '.join(apart)} the training loss has another optimal {fit.axis} than the "
        "eval loss: the proxies overfit, or a tenth of the steps says little"
    )
    return warned(fit, {"train_eval_differ": sentence})


def fit_optima(
    optima: pd.DataFrame, axis: str, spacing: float, scatter_below: float | None = None
) -> Fit:
    """The exponent of optima that were read off grids.

    The true optimum lies anywhere within half a spacing of the best point: a variance of
    spacing^2 / 12. Several rows of a width, such as seeds, are averaged; they share the grid, so
    that their number makes no error smaller.

    Args:
        optima: one row an optimum with columns `width` and `axis`.
        spacing: of the grids, octaves.

    Raises:
        InputError: an optimum that has no logarithm.
    """
    by_width = log2_of(optima[axis]).groupby(optima["width"])
    widths, counts = by_width.size().index.tolist(), by_width.size().tolist()
    means = by_width.mean().tolist()
    bowls = {
        width: Bowl("ok", optimum=x, low=x - spacing / 2, high=x + spacing / 2, n=n)
        for width, x, n in zip(widths, means, counts, strict=True)
    }
    used = np.ones((1, len(means)), dtype=bool)
    u, y = np.log2(np.array([widths], dtype=np.float64)), np.array([means])
    covariance = spacing**2 / 12 * np.eye(len(means))[None]
    (law,) = laws_of(used, u, y, covariance, np.array([np.inf]), scatter_below)
    if law is not None:
        law = replace(law, forms=forms_of(used[0], u[0], y[0], covariance[0], law))
    fit = fit_of(axis, bowls, law)
    resolution = f"grid resolution only: each optimum known to +-{spacing / 2:g} octave"
    return replace(fit, sentence=f"{fit.sentence}; {resolution}")


def grid_spacing(optima: pd.Series[float], where: str = "") -> float:
    """The smallest gap between different optima, octaves.

    Args:
        where: whose they are, for the error.

    Raises:
        InputError: all are the same, or one has no logarithm.
    """
    gaps = np.diff(np.unique(log2_of(optima).to_numpy().round(SAME)))
    if not gaps.size:
        raise InputError(
            f"all optima of {optima.name}{where} are the same, so that the spacing of their grid "
            "cannot be seen; give it in octaves with --grid-spacing"
        )
    return float(gaps.min())


def log2_of(optima: pd.Series[float]) -> pd.Series[float]:
    if (optima <= 0).any():
        raise InputError(f"an optimal {optima.name} of 0 has no logarithm; leave such rows out")
    return optima.map(math.log2)
