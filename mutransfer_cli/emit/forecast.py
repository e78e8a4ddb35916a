"""What one future run at the target may find, and what the recipe's value is expected to cost."""

from __future__ import annotations

import math
from typing import Literal

from mutransfer_cli.emit.octaves import MOST_OCTAVES, from_octaves
from mutransfer_cli.errors import InputError
from mutransfer_cli.files.exponents import Axis
from mutransfer_cli.files.recipe import Forecast, Quantity

Form = Literal["curved", "saturating"]


def forecast(
    name: str,
    axis: Axis,
    width: int,
    fitted: Quantity,
    loss_per_doubling: float | None,
    unit: str,
) -> Forecast:
    """Prediction interval of the optimum at a width, and the expected excess loss of the value.

    The excess is that of a parabola of the largest usable width's curvature, at the standard error
    of the prediction. The interval is never narrower than that of the line itself.

    Args:
        fitted: the line at the width.
        loss_per_doubling: by which the target's loss falls per doubling of its compute.
        unit: of the loss.
    """
    prediction, exponent = axis.prediction, axis.exponent
    assert prediction is not None, "callers refuse an insufficient fit"
    assert exponent is not None
    assert fitted.high is not None
    value, octaves = fitted.value, math.log2(width / prediction.width)
    of_line = math.log2(fitted.high / value)
    half_width = math.hypot(prediction.half_width, prediction.per_octave * octaves)
    half_width = max(half_width, of_line)
    usable = {at: optimum for at, optimum in axis.optimum.items() if optimum.status == "ok"}
    beyond, curvature = width / max(usable), usable[max(usable)].curvature
    excess = None if curvature is None else curvature * (half_width / prediction.quantile) ** 2
    multiplier = None
    if excess is not None and loss_per_doubling is not None:
        if excess > MOST_OCTAVES * loss_per_doubling:
            raise InputError(
                f"--loss-per-doubling {loss_per_doubling:g}: no compute buys {excess:.2g} {unit} "
                "at that; give what the target's loss falls by"
            )
        multiplier = 2 ** (excess / loss_per_doubling)
    what = f"the prediction of {name} at width {width}"
    low, high = (from_octaves(math.log2(value) + side * half_width, what) for side in (-1, 1))
    return Forecast(
        low=low,
        high=high,
        level=exponent.level,
        expected_excess_loss=excess,
        compute_multiplier=multiplier,
        times_largest_width=beyond,
        forms=by_forms(axis, width),
        sentence=f"at width {width}, {beyond:.3g}x the largest fitted width, the best base {name} "
        f"is {value:.3g}; one run's own optimum lies between {low:.3g} and {high:.3g} with "
        f"{exponent.level:.0%}" + _cost(value, excess, multiplier, unit),
    )


def _cost(value: float, excess: float | None, multiplier: float | None, unit: str) -> str:
    if excess is None:
        return ""
    loss = f", and using {value:.3g} is expected to cost {excess:.2g} {unit}"
    return loss if multiplier is None else f"{loss}, as much as {multiplier - 1:.1%} of the compute"


def by_forms(axis: Axis, width: int) -> dict[Form, float]:
    """The optimum at a width by the forms beside the line."""
    forms = axis.forms
    if forms is None:
        return {}
    x = math.log2(width / forms.width)
    return {
        "curved": _bounded(forms.value, forms.exponent * x + forms.bend * x**2),
        "saturating": _bounded(forms.limit, forms.drift * 2.0**-x),
    }


def _bounded(value: float, octaves: float) -> float:
    return from_octaves(math.log2(value) + octaves, "a form beside the line")
