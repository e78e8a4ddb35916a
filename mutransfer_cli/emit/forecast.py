"""What one future run at the target may find, and what the recipe's value is expected to cost."""

from __future__ import annotations

import math

from mutransfer_cli.files.exponents import Axis
from mutransfer_cli.files.recipe import Forecast


def forecast(name: str, axis: Axis, width: int, value: float) -> Forecast:
    """Prediction interval of the optimum at a width, and the expected excess loss of `value`.

    The excess is that of a parabola of the largest usable width's curvature, at the standard error
    of the prediction.
    """
    prediction, exponent = axis.prediction, axis.exponent
    assert prediction is not None, "callers refuse an insufficient fit"
    assert exponent is not None
    octaves = math.log2(width / prediction.width)
    half_width = math.hypot(prediction.half_width, prediction.per_octave * octaves)
    usable = {at: optimum for at, optimum in axis.optimum.items() if optimum.status == "ok"}
    largest = max(usable)
    curvature = usable[largest].curvature
    assert curvature is not None, "an optimum that is ok has a curvature"
    excess = curvature * (half_width / prediction.quantile) ** 2
    low, high = value / 2**half_width, value * 2**half_width
    beyond = width / largest
    sentence = (
        f"at width {width}, {beyond:.3g}x the largest fitted width, the best base {name} is "
        f"{value:.3g}; one run's own optimum lies between {low:.3g} and {high:.3g} with "
        f"{exponent.level:.0%}, and using {value:.3g} is expected to cost {excess:.2g} nats"
    )
    return Forecast(
        low=low,
        high=high,
        level=exponent.level,
        expected_excess_loss=excess,
        times_largest_width=beyond,
        sentence=sentence,
    )
