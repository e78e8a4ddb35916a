"""What a fit says to a person: its status with what to do, and warnings by code."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import pandas as pd
from scipy import stats

from mutransfer_cli.fit.law import MIN_WIDTHS
from mutransfer_cli.fit.result import LEVEL, Bowl, Law

TILT_DRIFT = 0.1  # per doubling of width
WORSE = 3.0  # standard errors by which a wider model is worse


def law_sentence(axis: str, law: Law) -> str:
    return (
        f"the optimal {axis} goes as width^{law.exponent:+.3f} ({100 * LEVEL:g} % interval "
        f"{law.exponent - law.half_width:+.3f} to {law.exponent + law.half_width:+.3f}, "
        f"{law.widths} widths)"
    )


def why_insufficient(axis: str, bowls: Mapping[int, Bowl]) -> str:
    usable = sum(bowl.status == "ok" for bowl in bowls.values())
    alike: dict[str, list[str]] = {}
    for width, bowl in bowls.items():
        if bowl.status != "ok":
            alike.setdefault(advice(axis, bowl), []).append(str(width))
    reasons = [f"width {', '.join(widths)}: {said}" for said, widths in alike.items()]
    if len(bowls) < MIN_WIDTHS:
        missing = MIN_WIDTHS - len(bowls)
        reasons.append(f"add at least {missing} width{'s' if missing > 1 else ''}")
    return (
        f"{usable} of {len(bowls)} widths have a usable optimum, {MIN_WIDTHS} are needed: "
        + "; ".join(reasons)
    )


def advice(axis: str, bowl: Bowl) -> str:
    """What a bowl that is not ok says, and what to do about it."""
    match bowl.status:
        case "ok":
            return "ok"
        case "not_bracketed":
            further = "lower" if bowl.side == "low" else "higher"
            return f"not_bracketed ({bowl.side}), add {further} values of {axis}"
        case "too_few_points":
            return f"too_few_points ({bowl.n} usable), add values of {axis}"
        case "flat":
            return f"flat, {axis} makes no difference there beyond the noise"
        case "multimodal":
            return f"multimodal, two minima over {axis}, look at the runs between them"
        case "unresolved":
            return f"unresolved, add values of {axis} near the optimum, or seeds"


def edge_warnings(axis: str, bowls: Mapping[int, Bowl]) -> dict[str, str]:
    widths = [str(width) for width, bowl in bowls.items() if bowl.near_edge]
    if not widths:
        return {}
    return {
        "near_edge": f"at width {', '.join(widths)} the optimal {axis} lies less than an octave "
        "from an end of its grid: extend the grid there"
    }


def law_warnings(axis: str, bowls: Mapping[int, Bowl], law: Law) -> dict[str, str]:
    found = _of_scatter(law) | _of_shape(axis, law) | _of_losses(bowls)
    shorter, largest = law.without_largest, max(w for w, b in bowls.items() if b.status == "ok")
    if (
        shorter is not None
        and shorter * law.exponent < 0
        and abs(law.exponent) > law.measurement_half_width
    ):
        found["sign_without_largest"] = (
            f"without width {largest} the exponent of {axis} is {shorter:+.3f}: its sign hangs "
            "on one width; add a larger one"
        )
    return found


def _of_scatter(law: Law) -> dict[str, str]:
    if law.assumed_scatter is not None:
        return {
            "scatter_assumed": "the interval assumes, as you say, that the optima scatter about "
            f"the line by less than {law.assumed_scatter:g} octaves; these runs do not show it"
        }
    if law.widths == MIN_WIDTHS:
        return {
            "scatter_unknown": "scatter between widths cannot be learned from 3 widths, so that "
            "the interval is wide: add widths"
        }
    return {}


def _of_shape(axis: str, law: Law) -> dict[str, str]:
    found = {}
    drift, error = law.tilt_drift, law.tilt_drift_error
    if drift is not None and error is not None and abs(drift) > max(TILT_DRIFT, 2 * error):
        found["shape_drifts"] = (
            f"the bowls of {axis} change their shape with width ({drift:+.2f} of tilt per "
            "doubling): the exponent is biased by an unknown amount; use a finer grid near the "
            "optimum"
        )
    if law.forms and abs(law.forms.bend) > _quantile(law.widths - 3) * law.forms.bend_error:
        found["law_bends"] = (
            f"the optimal {axis} bends away from a straight line (the exponent changes by "
            f"{2 * law.forms.bend:+.2f} per doubling): see the forms of the forecast, or sweep "
            "wider models only"
        )
    return found


def _quantile(freedom: int) -> float:
    return float(stats.t.ppf(0.5 + LEVEL / 2, freedom))


def _of_losses(bowls: Mapping[int, Bowl]) -> dict[str, str]:
    known = [
        (width, bowl.loss, bowl.noise)
        for width, bowl in sorted(bowls.items())
        if bowl.loss is not None and bowl.noise is not None
    ]
    worse = [
        f"width {wide} ends at {after:.4g} and width {narrow} at {before:.4g}"
        for (narrow, before, before_noise), (wide, after, after_noise) in pairwise(known)
        if after > before + WORSE * math.hypot(before_noise, after_noise)
    ]
    if not worse:
        return {}
    return {
        "non_monotone_loss": f"{'; '.join(worse)}: wider is worse, so that something beside width "
        "differs or training is too short"
    }


def size_warnings(trials: pd.DataFrame, sizes: Sequence[str]) -> dict[str, str]:
    """Sizes that are not the same at all widths; each is one value at a width."""
    moving = [
        size
        for size in sizes
        if size in trials and trials.groupby("width")[size].first().nunique() > 1
    ]
    if not moving:
        return {}
    return {
        "size_moves_with_width": f"{' and '.join(moving)} changes together with width: the "
        "exponent is that of both together, not of width alone"
    }


def decay_warning(trials: pd.DataFrame, axes: Sequence[str]) -> dict[str, str]:
    """Of a weight decay that varies too little to be an axis."""
    varies = "weight_decay" in trials and trials["weight_decay"].nunique() > 1
    if not varies or "weight_decay" in axes:
        return {}
    return {
        "decay_not_fitted": "weight_decay has too few values to be fitted: each optimum is at its "
        "best one, and nothing says which to use"
    }
