"""The fit of one axis: tables of trials in, optima and exponent with intervals out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from mutransfer_cli.errors import InsufficientEvidence
from mutransfer_cli.fit.bowls import Bowls, fit_bowls
from mutransfer_cli.fit.cells import Cells, broken, first_noise
from mutransfer_cli.fit.judge import BowlStatus, Judgements, Side, judge
from mutransfer_cli.fit.law import MIN_WIDTHS, Laws, fit_laws, future_spread, plain_slope
from mutransfer_cli.fit.table import cells_of, profile

Array = npt.NDArray[np.float64]

LEVEL = 0.95
TILT_DRIFT = 0.1  # per doubling of width
WORSE = 3.0  # standard errors by which a wider model is worse


@dataclass(frozen=True)
class Bowl:
    """The optimum at one width; log2 units.

    Attributes:
        status: `ok`, or why the optimum is not used.
        side: where the optimum lies when it is not bracketed.
        optimum, low, high: with its Fieller interval; None unless ok.
        loss: at the optimum, nats; noise: sd of a cell's mean loss.
        curvature: nats per octave^2; tilt: per octave, above 0 when steeper above the optimum.
        form: how far the optimum of a parabola lies from it, octaves; the interval holds no such
            error of form.
        near_edge: the optimum is ok but less than an octave from an end of the grid.
        n: cells with finite losses.
    """

    status: BowlStatus
    side: Side | None
    optimum: float | None
    low: float | None
    high: float | None
    loss: float | None
    noise: float
    curvature: float | None
    tilt: float | None
    form: float | None
    near_edge: bool
    n: int


@dataclass(frozen=True)
class Law:
    """log2 optimum = value + exponent * (log2 width - centre), log2 units; half-widths at LEVEL.

    Attributes:
        half_width: of the exponent, the larger of the next two.
        law_half_width: for widths like these, scatter between them included.
        measurement_half_width: for exactly these widths, if there were no scatter.
        value_half_width: of the line at the centre, where it is independent of the slope.
        scatter: sd of the true optima about the line, octaves.
        widths: number of widths.
        form_spread: exponent of tilted bowls minus that of parabolas.
        tilt_drift, tilt_drift_error: of the tilt per doubling of width, and its standard error.
        without_largest: the exponent without the largest width; None with three widths.
        future_half_width, future_per_octave: one future optimum lies within
            hypot(future_half_width, future_per_octave * (log2 width - future_centre)), which is
            future_quantile standard errors.
    """

    exponent: float
    half_width: float
    law_half_width: float
    measurement_half_width: float
    centre: float
    value: float
    value_half_width: float
    scatter: float
    widths: int
    form_spread: float
    tilt_drift: float
    tilt_drift_error: float
    without_largest: float | None
    future_centre: float
    future_half_width: float
    future_per_octave: float
    future_quantile: float


@dataclass(frozen=True)
class Fit:
    """The exponent of one hyperparameter's optimum in width.

    Attributes:
        axis: the hyperparameter.
        status: `ok`, or `insufficient` when fewer than three widths have a usable optimum.
        sentence: the status for a person, with what to do.
        level: of every interval.
        bowls: by width, log2 units.
        law: the line across widths; None when insufficient.
        warnings: by code, each a sentence.
    """

    axis: str
    status: Literal["ok", "insufficient"]
    sentence: str
    level: float
    bowls: dict[int, Bowl]
    law: Law | None
    warnings: dict[str, str]


def fit_exponent(
    trials: pd.DataFrame,
    axis: str = "lr",
    others: Sequence[str] = (),
    loss: str = "eval_loss",
) -> Fit:
    """Fits log2 optimum of `axis` against log2 width.

    Args:
        trials: one row a trial with columns `width`, `axis` (positive) and `loss` (nats; NaN or
            infinite for a diverged trial), and `seed` where there are several. Rows that repeat
            all of these are replicates.
        others: columns of further axes; at each value of `axis` the best of them counts.
    """
    return fit_groups({"": trials}, axis, others, loss)[""]


def fit_groups(
    groups: Mapping[str, pd.DataFrame],
    axis: str = "lr",
    others: Sequence[str] = (),
    loss: str = "eval_loss",
) -> dict[str, Fit]:
    """The fit of each group on its own; those with as many widths are computed together.

    Raises:
        InsufficientEvidence: a group without trials.
    """
    stacks: dict[int, dict[str, pd.DataFrame]] = {}
    for name, trials in groups.items():
        if trials.empty:
            raise InsufficientEvidence(
                f"{name or 'the input'}: no trial that ran; train some first"
            )
        stacks.setdefault(trials["width"].nunique(), {})[name] = profile(trials, axis, others, loss)
    found: dict[str, Fit] = {}
    for stack in stacks.values():
        cells = cells_of(list(stack.values()), axis, loss)
        found |= zip(stack, fit_sweeps(cells, axis), strict=True)
    return {name: found[name] for name in groups}


def fit_sweeps(cells: Cells, axis: str) -> list[Fit]:
    """The fits of stacked sweeps, all at once."""
    noise = first_noise(cells)
    kept = cells.without(broken(cells, noise))
    bowls = fit_bowls(kept, noise)
    judged = judge(kept, bowls, LEVEL)
    laws: dict[int, Law] = {}
    for ok in np.unique(judged.ok, axis=0):
        if ok.sum() >= MIN_WIDTHS:
            alike = np.flatnonzero((judged.ok == ok).all(1))
            laws |= zip(alike.tolist(), _laws(cells.log2_width, bowls, alike, ok), strict=True)
    return [_fit(axis, _bowls(cells, bowls, judged, g), laws.get(g)) for g in range(len(cells.x))]


def _laws(
    log2_width: Array, bowls: Bowls, sweeps: npt.NDArray[np.intp], ok: npt.NDArray[np.bool_]
) -> list[Law]:
    """The laws of the sweeps in which the same widths are ok."""
    widths = np.flatnonzero(ok)
    u, y = log2_width[np.ix_(sweeps, widths)], bowls.optimum[np.ix_(sweeps, widths)]
    covariance = bowls.covariance[np.ix_(sweeps, widths, widths)]
    freedom = bowls.freedom[sweeps]
    law = fit_laws(u, y, covariance, freedom, LEVEL)
    parabola = fit_laws(u, bowls.parabola[np.ix_(sweeps, widths)], covariance, freedom, LEVEL)
    shorter: Laws | None = None
    if widths.size > MIN_WIDTHS:
        shorter = fit_laws(u[:, :-1], y[:, :-1], covariance[:, :-1, :-1], freedom, LEVEL)
    future = future_spread(u, y, covariance, LEVEL)
    tilt_covariance = bowls.tilt_covariance[np.ix_(sweeps, widths, widths)]
    drift, drift_error = plain_slope(u, bowls.tilt[np.ix_(sweeps, widths)], tilt_covariance)
    return [
        Law(
            exponent=float(law.exponent[i]),
            half_width=float(law.half_width[i]),
            law_half_width=float(law.law_half_width[i]),
            measurement_half_width=float(law.measurement_half_width[i]),
            centre=float(law.centre[i]),
            value=float(law.value[i]),
            value_half_width=float(law.value_half_width[i]),
            scatter=float(law.scatter[i]),
            widths=int(widths.size),
            form_spread=float(law.exponent[i] - parabola.exponent[i]),
            tilt_drift=float(drift[i]),
            tilt_drift_error=float(drift_error[i]),
            without_largest=None if shorter is None else float(shorter.exponent[i]),
            future_centre=float(future.centre[i]),
            future_half_width=float(future.half_width[i]),
            future_per_octave=float(future.per_octave[i]),
            future_quantile=future.quantile,
        )
        for i in range(len(sweeps))
    ]


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


def _fit(axis: str, found: dict[int, Bowl], law: Law | None) -> Fit:
    if law is None:
        sentence = why_insufficient(axis, found)
        return Fit(axis, "insufficient", sentence, LEVEL, found, None, _near_edge(axis, found))
    sentence = (
        f"the optimal {axis} goes as width^{law.exponent:+.3f} ({LEVEL:.0%} interval "
        f"{law.exponent - law.half_width:+.3f} to {law.exponent + law.half_width:+.3f}, "
        f"{law.widths} widths)"
    )
    if law.widths == MIN_WIDTHS:
        sentence += "; scatter between widths cannot be learned from 3 widths: add widths"
    warnings = _near_edge(axis, found) | _disagreements(axis, found, law)
    return Fit(axis, "ok", sentence, LEVEL, found, law, warnings)


def _near_edge(axis: str, bowls: dict[int, Bowl]) -> dict[str, str]:
    widths = [str(width) for width, bowl in bowls.items() if bowl.near_edge]
    if not widths:
        return {}
    return {
        "near_edge": f"the optimal {axis} of width {', '.join(widths)} lies less than an octave "
        "from an end of its grid: extend the grid there"
    }


def _disagreements(axis: str, bowls: dict[int, Bowl], law: Law) -> dict[str, str]:
    found = {}
    good = {width: bowl for width, bowl in bowls.items() if bowl.status == "ok"}
    drift = law.tilt_drift
    if abs(drift) > max(TILT_DRIFT, 2 * law.tilt_drift_error):
        found["shape_drifts"] = (
            f"the bowls of {axis} change their shape with width ({drift:+.2f} of tilt per "
            "doubling): the exponent is biased by an unknown amount; use a finer grid near the "
            "optimum"
        )
    for (narrow, before), (wide, after) in pairwise(sorted(good.items())):
        assert before.loss is not None
        assert after.loss is not None
        if after.loss > before.loss + WORSE * math.hypot(before.noise, after.noise):
            found["non_monotone_loss"] = (
                f"width {wide} ends at {after.loss:.3f} and width {narrow} at {before.loss:.3f}: "
                "wider is worse, so that something beside width differs or training is too short"
            )
    shorter = law.without_largest
    if (
        shorter is not None
        and shorter * law.exponent < 0
        and abs(law.exponent) > law.measurement_half_width
    ):
        found["sign_without_largest"] = (
            f"without width {max(good)} the exponent of {axis} is {shorter:+.3f}: its sign hangs "
            "on one width; add a larger one"
        )
    return found


def why_insufficient(axis: str, bowls: dict[int, Bowl]) -> str:
    usable = sum(bowl.status == "ok" for bowl in bowls.values())
    reasons = [
        f"width {width} {advice(axis, bowl)}"
        for width, bowl in bowls.items()
        if bowl.status != "ok"
    ]
    if len(bowls) < MIN_WIDTHS:
        reasons.append(f"sweep {MIN_WIDTHS - len(bowls)} more widths or more")
    return (
        f"{usable} of {len(bowls)} widths have a usable optimum, {MIN_WIDTHS} are needed: "
        + "; ".join(reasons)
    )


def advice(axis: str, bowl: Bowl) -> str:
    """What a bowl that is not ok says, and what to do about it."""
    match bowl.status:
        case "ok":
            return "is ok"
        case "not_bracketed":
            further = "lower" if bowl.side == "low" else "higher"
            return f"is not_bracketed ({bowl.side}): add {further} values of {axis}"
        case "too_few_points":
            return f"has too_few_points ({bowl.n} finite): add values of {axis}"
        case "flat":
            return f"is flat: {axis} makes no difference there beyond the noise"
        case "multimodal":
            return f"is multimodal: two minima over {axis}; look at the runs between them"
        case "unresolved":
            return f"is unresolved: add values of {axis} near the optimum, or seeds"


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
    return replace(fit, warnings=fit.warnings | {"train_eval_differ": sentence})
