"""Sentences about a fit: its status with what to do next, and warnings by code."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import pandas as pd

from mutransfer_cli.fit.arrays import LEVEL
from mutransfer_cli.fit.exponents import Axis, Interval, RidgeShape
from mutransfer_cli.fit.law import MIN_WIDTHS
from mutransfer_cli.fit.optimum import LeftOut, Optimum
from mutransfer_cli.words import digits, loss, percent, rate, signed

TILT_DRIFT = 0.1  # per doubling of width
WORSE = 3.0  # standard errors by which a wider model is worse


def law_sentence(name: str, exponent: Interval, widths: int) -> str:
    return (
        f"the optimal {name} scales as width^{signed(exponent.value)} ({percent(LEVEL)} interval "
        f"{signed(exponent.low)} to {signed(exponent.high)}, {widths} widths)"
    )


def what_to_use(name: str, width: int, values: tuple[float, float, float], level: float) -> str:
    """Say which value to use at a width, and where one run's own optimum lies.

    Args:
        values: the value, and the low and high end of its interval, in the hyperparameter's units.
        level: of the interval.
    """
    value, low, high = map(rate, values)
    return f"at width {width} use {name} {value}; between {low} and {high} with {percent(level)}"


def why_insufficient(name: str, optimum: Mapping[int, Optimum], counts: Mapping[int, int]) -> str:
    """Which widths have no usable optimum, why, and what to add.

    Args:
        counts: usable cells by width.
    """
    usable = sum(at.status == "ok" for at in optimum.values())
    same: dict[str, list[str]] = {}
    for width, at in optimum.items():
        if at.status != "ok":
            same.setdefault(advice(name, at, counts[width]), []).append(str(width))
    reasons = [f"width {', '.join(widths)}: {reason}" for reason, widths in same.items()]
    if len(optimum) < MIN_WIDTHS:
        missing = MIN_WIDTHS - len(optimum)
        reasons.append(f"add at least {missing} width{'s' if missing > 1 else ''}")
    return (
        f"{usable} of {len(optimum)} widths have a usable optimum, {MIN_WIDTHS} are needed: "
        + "; ".join(reasons)
    )


def advice(name: str, at: Optimum, cells: int) -> str:
    """Why an optimum is not ok, and how to mend it."""
    match at.status:
        case "ok":
            return "ok"
        case "not_bracketed":
            further = "lower" if at.side == "low" else "higher"
            return f"the optimum lies at the {at.side} end, add {further} values of {name}"
        case "too_few_points":
            return f"too few usable values ({cells}), add values of {name}"
        case "flat":
            return f"{name} makes no difference there beyond the noise"
        case "multimodal":
            return f"two minima over {name}, look at the runs between them"
        case "at_divergence":
            return (
                f"the loss falls up to the {name} at which runs diverge or break, "
                "so that no bowl bounds it; train more stably there (warm-up, clipping)"
            )
        case "unresolved":
            return f"the optimum is lost in the noise, add values of {name} near it, or seeds"


def ridge_sentence(ridge: RidgeShape, product: str) -> str:
    """Why the axes of a ridge have no exponent; `product` names the decay per step."""
    direction = f"{ridge.angle:.1f} ± {ridge.angle_error:.1f} degrees from the lr axis"
    if ridge.product_only:
        return (
            f"lr and weight_decay lie on a ridge ({direction}): only {product} is identified, and "
            "neither has an exponent of its own; keep one of them fixed and fit the other"
        )
    return (
        f"lr and weight_decay lie on a ridge ({direction}): only the position across it is "
        "identified, and neither has an exponent of its own; extend the grid along the ridge, "
        "or keep one of them fixed"
    )


def edge_warnings(name: str, near_edge: Sequence[int]) -> dict[str, str]:
    """Warn of widths whose optimum lies near an end of its grid."""
    if not near_edge:
        return {}
    return {
        "near_edge": f"at width {', '.join(map(str, near_edge))} the optimal {name} lies less than "
        "an octave from an end of its grid: extend the grid there"
    }


def left_out_warnings(name: str, runs: Sequence[LeftOut]) -> dict[str, str]:
    """Name the runs that were not fitted."""
    bad = [run for run in runs if run.reason == "bad_run"]
    broken: dict[int, list[LeftOut]] = {}
    for run in runs:
        if run.reason == "broken":
            broken.setdefault(run.width, []).append(run)
    found = {}
    if bad:
        named = "; ".join(
            f"width {run.width}, {name} {rate(run.value)}"
            + (f", seed {run.seed}" if run.seed else "")
            + f": {digits(abs(run.excess), 3)} {'above' if run.excess > 0 else 'below'} its bowl"
            for run in bad
        )
        found["bad_runs"] = f"left out as bad runs ({named}): look at them, or train them again"
    if broken:
        named = "; ".join(
            f"width {width} from {name} {rate(first.value)} up "
            f"({digits(first.excess, 3)} above its bowl)"
            for width, (first, *_) in broken.items()
        )
        found["broken_runs"] = (
            f"left out as broken, though their losses are finite ({named}): no bowl through the "
            "runs below them rises so steeply"
        )
    return found


def scatter_warnings(axis: Axis) -> dict[str, str]:
    if axis.assumed_scatter is not None:
        return {
            "scatter_assumed": "the interval assumes, as you say, that the optima scatter about "
            f"the line by less than {axis.assumed_scatter:g} octaves; these runs do not show it"
        }
    if len(axis.usable) == MIN_WIDTHS:
        return {
            "scatter_unknown": "scatter between widths cannot be learned from 3 widths, so that "
            "the interval is wide: add widths"
        }
    return {}


def drift_warnings(name: str, drift: float, error: float) -> dict[str, str]:
    """Warn where the tilt of the bowls drifts, per doubling of width, beyond its standard error."""
    if abs(drift) <= max(TILT_DRIFT, 2 * error):
        return {}
    return {
        "shape_drifts": f"the bowls of {name} change their shape with width ({drift:+.2f} of tilt "
        "per doubling): the exponent is biased by an unknown amount; use a finer grid near the "
        "optimum"
    }


def bend_warnings(name: str, axis: Axis) -> dict[str, str]:
    forms = axis.forms
    if not forms or not forms.bends:
        return {}
    return {
        "law_bends": f"the optimal {name} bends away from a straight line (the exponent changes by "
        f"{2 * forms.bend:+.2f} per doubling): forecasts count the forms beside the line too, and "
        "are wide; sweep a larger width, which tells the forms apart, or wider models only"
    }


def loss_warnings(optimum: Mapping[int, Optimum], noise: Mapping[int, float]) -> dict[str, str]:
    """Warn where a wider model is worse.

    Args:
        noise: sd of a cell's mean loss by width.
    """
    known = [(w, at.loss, noise[w]) for w, at in sorted(optimum.items()) if at.loss is not None]
    worse = [
        f"width {wide} ends at {loss(after)} and width {narrow} at {loss(before)}"
        for (narrow, before, before_noise), (wide, after, after_noise) in pairwise(known)
        if after > before + WORSE * math.hypot(before_noise, after_noise)
    ]
    if not worse:
        return {}
    return {
        "non_monotone_loss": f"{'; '.join(worse)}: wider is worse, so that something beside width "
        "differs or training is too short"
    }


def sign_warnings(name: str, axis: Axis) -> dict[str, str]:
    """Warn where leaving out the largest width changes the sign of a significant exponent."""
    shorter, measured = axis.without_largest, axis.measurement_interval
    assert measured is not None
    significant = abs(measured.value) > measured.high - measured.value
    if shorter is None or shorter * measured.value >= 0 or not significant:
        return {}
    return {
        "sign_without_largest": f"without width {max(axis.usable)} the exponent of {name} is "
        f"{signed(shorter)}: its sign depends on one width; add a larger one"
    }


def size_warnings(trials: pd.DataFrame, sizes: Sequence[str]) -> dict[str, str]:
    """Warn of sizes that change with width; each has one value at a width."""
    moving = [
        size
        for size in sizes
        if size in trials and trials.groupby("width")[size].first().nunique() > 1
    ]
    if not moving:
        return {}
    return {
        "size_moves_with_width": f"{' and '.join(moving)} {'change' if moving[1:] else 'changes'} "
        "together with width: the exponent is that of both together, not of width alone"
    }


def repeat_warnings(
    equal: int, several: int, rows: int, example: Mapping[str, float]
) -> dict[str, str]:
    """Warn of runs that are suspiciously equal.

    Args:
        equal: cells in which each loss occurs more than once.
        several: cells with two runs or more.
        rows: rows that count no more.
        example: width, hyperparameters and loss of the first such cell.
    """
    first = ", ".join(f"{name} {value:.6g}" for name, value in example.items())
    return {
        "equal_replicates": f"in {equal} of the {several} cells with two runs or more each loss "
        f"occurs more than once (first: {first}); independent runs differ, so equal losses of a "
        f"cell count once and {rows} row{'s are' if rows > 1 else ' is'} left out: look whether "
        "rows were pasted twice, the seed did not reach the runs, or losses were rounded too far"
    }


def decay_warnings(trials: pd.DataFrame, axes: Sequence[str]) -> dict[str, str]:
    """Warn of a weight decay that has too few values to be an axis."""
    varies = "weight_decay" in trials and trials["weight_decay"].nunique() > 1
    if not varies or "weight_decay" in axes:
        return {}
    return {
        "decay_not_fitted": "weight_decay has too few values to be fitted: each optimum is at its "
        "best one, and nothing says which to use"
    }


def train_warnings(axis: Axis, by_train_loss: Axis, name: str) -> dict[str, str]:
    """Warn of widths whose two intervals, by eval loss and by training loss, do not touch."""
    others = by_train_loss.usable
    apart = []
    for width, at in axis.usable.items():
        if width in others:
            (low, _, high), (other_low, _, other_high) = at.octaves, others[width].octaves
            if high < other_low or other_high < low:
                apart.append(str(width))
    if not apart:
        return {}
    return {
        "train_eval_differ": f"at width {', '.join(apart)} the training loss has another optimal "
        f"{name} than the eval loss: the proxies overfit, or a tenth of the steps says little"
    }
