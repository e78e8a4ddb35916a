"""Gate `transfer`: the excess loss of the value that is forecast for a larger width."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

import pandas as pd

from mutransfer_cli.check.measure import Gate, Measure, gate, measure, runs_to_decide, unmeasured
from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.exponent import fit_exponents
from mutransfer_cli.fit.exponents import Axis
from mutransfer_cli.fit.optimum import Optimum
from mutransfer_cli.words import rate, words_of_status

LOSS = "eval_loss"
SHARE = 0.0025  # of the loss at the optimum, which may be lost
QUANTITY = "excess loss of the forecast"


@dataclass(frozen=True)
class Forecast:
    """A base value for a width, and what it rests on."""

    axis: str
    width: int
    value: float
    widths: tuple[int, ...]
    """The widths that it was fitted to."""
    protocol_hash: str | None
    """Protocol of the runs; None where it is not known."""

    @classmethod
    def of(cls, axis: Axis, width: int, protocol_hash: str | None) -> Forecast:
        """The fitted line of lr at a width."""
        value = 2 ** axis.at(width).value
        return cls("lr", width, value, tuple(axis.usable), protocol_hash)

    @property
    def sha256(self) -> str:
        """SHA-256 of its canonical JSON; published beforehand, it proves what was forecast."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


@dataclass(frozen=True)
class Excess:
    """Loss of a value above that at the optimum, in the loss's unit, with its interval."""

    value: float
    low: float
    high: float
    loss: float
    """Loss at the optimum."""
    octaves: float
    """Distance of the value above the optimum."""
    half_width: float
    """Half-width of the optimum's interval on the side of the value, octaves."""


def excess_of(optimum: Optimum, log2_value: float) -> Excess | None:
    """The excess loss of a value by the bowl; None where the optimum is not usable.

    Its interval is that of the optimum's place, error of form included; the loss there cancels.
    """
    if optimum.status != "ok":
        return None
    assert optimum.loss is not None and optimum.tilt is not None, "given optima have no loss"  # noqa: PT018
    low, at, high = optimum.octaves
    form = 2 * (optimum.form or 0.0)
    below, above = math.hypot(at - low, form), math.hypot(high - at, form)
    octaves = log2_value - at
    places = (octaves, octaves + below, octaves - above)
    value, *ends = (optimum.expected_excess(place, 0.0) or 0.0 for place in places)
    inside = octaves - above <= 0 <= octaves + below
    return Excess(
        value=value,
        low=0.0 if inside else min(ends),
        high=max(ends),
        loss=optimum.loss,
        octaves=octaves,
        half_width=above if octaves > 0 else below,
    )


def held_out_width(widths: Sequence[int], asked: int | None) -> int:
    """The largest width; one that is asked for has to be the largest.

    Raises:
        InputError: the width is missing, not above all others, or the only one.
    """
    there = sorted(set(widths))
    width = there[-1] if asked is None else asked
    if width not in there:
        raise InputError(
            f"held_out {width}: the records have widths {there}; give the largest",
            setting="held_out",
        )
    if width != there[-1]:
        refuse_inside(width, there)
    if len(there) == 1:
        raise InputError(f"width {width} is the only one; smaller ones are needed to forecast it")
    return width


def refuse_inside(width: int, fitted: Collection[int]) -> None:
    """Raise InputError if a held-out width is not above all that are fitted."""
    if width <= max(fitted, default=0):
        raise InputError(
            f"held_out {width}: lies inside the fitted widths, up to {max(fitted)}; only a larger "
            "width than all fitted ones shows whether the value transfers",
            setting="held_out",
        )


def predicted(
    trials: pd.DataFrame, others: Sequence[str], width: int, protocol_hash: str | None
) -> Forecast | Axis:
    """Forecast a width from the smaller ones alone; their fit where it is not usable."""
    fit = fit_exponents(trials[trials["width"] < width], "lr", others, LOSS)
    return fit if fit.line is None else Forecast.of(fit, width, protocol_hash)


def held_out_optimum(trials: pd.DataFrame, others: Sequence[str], width: int) -> Optimum:
    """The optimum at the width; smaller widths, where there are any, help to tell its tilt."""
    return fit_exponents(trials, "lr", others, LOSS).optimum[width]


def transfer_gate(forecast: Forecast, optimum: Optimum, unit: str, share: float = SHARE) -> Gate:
    """Compare the excess loss of the forecast with what may be lost.

    Args:
        optimum: the optimum found at the forecast width.
        share: tolerated share of the loss at the optimum.
    """
    excess = excess_of(optimum, math.log2(forecast.value))
    if excess is None:
        why = words_of_status(optimum.status, optimum.side)
        where = f"the optimum at width {forecast.width} cannot be used: {why}"
        found = unmeasured(QUANTITY, where, unit=unit)
    else:
        found = _measured(forecast, excess, unit, share)
    evidence = {
        "forecast": f"lr {forecast.value:.6g} at width {forecast.width}",
        "forecast_sha256": forecast.sha256,
        "fitted_widths": ", ".join(map(str, forecast.widths)),
    }
    return gate("transfer", [found], evidence=evidence)


def unpredicted(why: str, width: int, unit: str) -> Gate:
    """The inconclusive gate where the smaller widths forecast nothing."""
    return gate("transfer", [unmeasured(f"{QUANTITY} lr at width {width}", why, unit=unit)])


def _measured(forecast: Forecast, excess: Excess, unit: str, share: float) -> Measure:
    tolerance = share * abs(excess.loss)
    quantity = f"{QUANTITY} lr {rate(forecast.value)} at width {forecast.width}"
    interval, deciding = (excess.low, excess.high), _deciding(excess, tolerance)
    return measure(quantity, excess.value, interval, 0.0, tolerance, unit, deciding)


def _deciding(excess: Excess, tolerance: float) -> str:
    # near the optimum the excess is quadratic in the distance
    reach = abs(excess.octaves) * math.sqrt(tolerance / excess.value) if excess.value else math.inf
    runs = runs_to_decide(excess.half_width, abs(reach - abs(excess.octaves)))
    if runs is None:
        return "the value is too near the edge of the tolerance for more runs to decide it soon"
    return f"{runs} times the runs at that width would decide it, were the value exact"
