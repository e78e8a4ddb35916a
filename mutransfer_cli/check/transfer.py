"""What a value that is not the optimum costs.

MERGED:
Gate `transfer`: what does the value that is forecast for a larger width cost there?"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from mutransfer_cli.check.measure import Gate, Measure, gate, measure, runs_to_decide, unmeasured
from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.bowls import shape
from mutransfer_cli.fit.exponent import fit_exponents
from mutransfer_cli.fit.result import Bowl, Fit


@dataclass(frozen=True)
class Excess:
    """Loss of a value above that of the optimum, in the loss's unit, with the optimum's interval.

    Attributes:
        loss: at the optimum.
        octaves: of the value above the optimum.
        half_width: of the optimum, octaves, on the side of the value.
    """

    value: float
    low: float
    high: float
    loss: float
    octaves: float
    half_width: float


def excess_of(bowl: Bowl, log2_value: float) -> Excess | None:
    """None where the bowl has no usable optimum.

    The interval is that of the optimum's place, its error of form included; the loss there cancels.
    """
    if bowl.status != "ok" or bowl.optimum is None or bowl.low is None or bowl.high is None:
        return None
    assert bowl.curvature is not None, "bowls of losses are meant, not given optima"
    assert bowl.tilt is not None
    assert bowl.loss is not None
    form = 2 * abs(bowl.form or 0.0)
    below = math.hypot(bowl.optimum - bowl.low, form)
    above = math.hypot(bowl.high - bowl.optimum, form)
    octaves = log2_value - bowl.optimum
    ends = [_cost(bowl, octaves + below), _cost(bowl, octaves - above)]
    inside = octaves - above <= 0 <= octaves + below
    return Excess(
        value=_cost(bowl, octaves),
        low=0.0 if inside else min(ends),
        high=max(ends),
        loss=bowl.loss,
        octaves=octaves,
        half_width=above if octaves > 0 else below,
    )


def _cost(bowl: Bowl, octaves: float) -> float:
    phi = shape(np.array([octaves]), np.array([bowl.tilt]))[0]
    return float((bowl.curvature or 0.0) * phi[0])


LOSS = "eval_loss"
SHARE = 0.0025  # of the loss: more than this is lost
MOST_RUNS = 100  # times those there are
QUANTITY = "excess loss of the forecast"


@dataclass(frozen=True)
class Prediction:
    """A base value for a width, and what it rests on.

    Attributes:
        axis: the hyperparameter.
        widths: those that it was fitted to.
        protocol_hash: of the runs; None where none is known.
    """

    axis: str
    width: int
    value: float
    widths: tuple[int, ...]
    protocol_hash: str | None

    @property
    def sha256(self) -> str:
        """Of its canonical JSON: what is forecast before the width is looked at."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def held_out_width(widths: Sequence[int], asked: int | None) -> int:
    """The largest, or the one asked for, which has to be.

    Raises:
        InputError: it is not there, not above all others, or the only one.
    """
    there = sorted(set(widths))
    width = there[-1] if asked is None else asked
    if width not in there:
        raise InputError(f"--held-out {width}: the records have widths {there}; give the largest")
    if width != there[-1]:
        refuse_inside(width, there)
    if len(there) == 1:
        raise InputError(f"width {width} is the only one; smaller ones are needed to forecast it")
    return width


def refuse_inside(width: int, fitted: Collection[int]) -> None:
    """
    Raises:
        InputError: the width is not above all that are fitted.
    """
    if width <= max(fitted, default=0):
        raise InputError(
            f"--held-out {width}: lies inside the fitted widths, up to {max(fitted)}; only a "
            "larger width than all that are fitted says whether the value transfers"
        )


def predicted(
    trials: pd.DataFrame, others: Sequence[str], width: int, protocol_hash: str | None
) -> Prediction | Fit:
    """From the smaller widths alone; their fit where it is not usable."""
    smaller = trials[trials["width"] < width]
    fit = fit_exponents(smaller, "lr", others, LOSS)
    if fit.law is None:
        return fit
    value = 2 ** fit.law.at(math.log2(width))
    usable = tuple(w for w, bowl in fit.bowls.items() if bowl.status == "ok")
    return Prediction("lr", width, value, usable, protocol_hash)


def held_out_bowl(trials: pd.DataFrame, others: Sequence[str], width: int) -> Bowl:
    """The bowl at the width; that of smaller ones tells its tilt better than it alone."""
    return fit_exponents(trials, "lr", others, LOSS).bowls[width]


def transfer_gate(prediction: Prediction, bowl: Bowl, unit: str, share: float = SHARE) -> Gate:
    """
    Args:
        share: of the loss at the optimum, which may be lost.
    """
    excess = excess_of(bowl, math.log2(prediction.value))
    if excess is None:
        where = f"width {prediction.width} is {bowl.status}"
        side = f", its optimum lies beyond the {bowl.side} end of its grid" if bowl.side else ""
        found = unmeasured(QUANTITY, where + side, 0.0, share * (bowl.loss or 0.0), unit)
    else:
        found = of_excess(prediction, excess, unit, share)
    evidence = {
        "forecast": f"lr {prediction.value:.6g} at width {prediction.width}",
        "forecast_sha256": prediction.sha256,
        "fitted_widths": ", ".join(map(str, prediction.widths)),
    }
    return gate("transfer", [found], evidence=evidence)


def unpredicted(why: str, width: int, unit: str) -> Gate:
    """The smaller widths forecast nothing."""
    quantity = f"{QUANTITY} lr at width {width}"
    return gate("transfer", [unmeasured(quantity, why, 0.0, 0.0, unit)])


def of_excess(prediction: Prediction, excess: Excess, unit: str, share: float) -> Measure:
    tolerance = share * abs(excess.loss)
    quantity = f"{QUANTITY} lr {prediction.value:.3g} at width {prediction.width}"
    interval = (excess.low, excess.high)
    deciding = _deciding(excess, tolerance)
    return measure(quantity, excess.value, interval, 0.0, tolerance, unit, deciding)


def _deciding(excess: Excess, tolerance: float) -> str:
    """The excess goes as the square of the distance, about the optimum."""
    reach = abs(excess.octaves) * math.sqrt(tolerance / excess.value) if excess.value else math.inf
    runs = runs_to_decide(excess.half_width, abs(reach - abs(excess.octaves)))
    if runs is None or runs > MOST_RUNS:
        return "the value is too near the edge of the tolerance for more runs to decide it soon"
    return f"{runs} times the runs at that width would decide it, were the value exact"
