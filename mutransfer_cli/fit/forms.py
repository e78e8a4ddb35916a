"""Forms beside the line, where they put one future optimum, and what a distance from it costs.

Everything in octaves (log2 units), with x = log2(width / the forms' own width).
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from mutransfer_cli.strict import NonNegative, Number, Positive, Strict

Form = Literal["curved", "saturating"]

MIN_WIDTHS_OF_FORMS = 5
SMALL = 1e-4  # distance times tilt below which two terms of the bowl are exact to 1e-9
MOST = 500.0  # exp overflows at 709


class FormPrediction(Strict):
    """How far one future optimum may lie from a form, at the level of the intervals.

    At another width it lies within sqrt(squares[0] + squares[1] * s + squares[2] * s^2 + ...)
    octaves, which is `quantile` standard errors, with s the form's own variable: x of the curved
    form, 2^-x of the saturating one.
    """

    quantile: Annotated[Number, Field(ge=0.01)]
    """Standard errors in a half-width."""
    squares: tuple[Number, ...]
    """Coefficients of the squared half-width, octaves^2."""

    def half_width(self, s: float) -> float:
        return math.sqrt(max(sum(c * s**power for power, c in enumerate(self.squares)), 0.0))


class FormAt(NamedTuple):
    """A form at a width, in octaves: log2 of its optimum, the half-width within which one future
    optimum lies, and the standard error in it."""

    value: float
    half_width: float
    error: float


class Forms(Strict):
    """Forms beside the line, with x = log2(other / width); shown from five widths on."""

    width: Positive
    """Geometric mean of the widths, in features."""
    value: Positive
    """The curved form at `width`: log2 optimum = log2(value) + exponent * x + bend * x^2."""
    exponent: Number
    """Slope of the curved form at `width`."""
    bend: Number
    """Bend of the curved form, octaves per octave^2."""
    bend_error: NonNegative
    """Standard error of bend."""
    limit: Positive
    """The saturating form, whose drift fades as 1/width: log2 optimum = log2(limit) + drift *
    2^-x."""
    drift: Number
    """Drift of the saturating form at `width`, octaves."""
    drift_error: NonNegative
    """Standard error of drift."""
    fade: Number | None = None
    """Drift at `width` that fades as 1/width beside a line of free slope, octaves; null in files of
    older versions, as are the following."""
    fade_half_width: NonNegative | None = None
    """Half-width of fade at 97.5%, so that bend and fade together seldom call a line bent."""
    curved_prediction: FormPrediction | None = None
    """Where one future optimum lies about the curved form."""
    saturating_prediction: FormPrediction | None = None
    """Where one future optimum lies about the saturating form; null too where that fits the optima
    worse than the line."""

    @property
    def bends(self) -> bool:
        """Whether the optima depart from a straight line: bend or fade beyond its half-width.

        The one condition of the warning `law_bends` and of wider forecasts. Files of older versions
        do not hold what it needs: False.
        """
        if self.curved_prediction is None or self.fade is None or self.fade_half_width is None:
            return False
        bend_half_width = self.curved_prediction.quantile * self.bend_error
        return abs(self.bend) > bend_half_width or abs(self.fade) > self.fade_half_width

    def at(self, width: float) -> dict[Form, float]:
        """log2 of the optimum at a width by each form."""
        x = math.log2(width / self.width)
        return {
            "curved": math.log2(self.value) + self.exponent * x + self.bend * x**2,
            "saturating": math.log2(self.limit) + self.drift * 2.0**-x,
        }

    def supported_at(self, width: float) -> dict[Form, FormAt]:
        """The forms that may hold instead of the line, at a width; none where nothing bends."""
        if not self.bends:
            return {}
        x = math.log2(width / self.width)
        own: dict[Form, tuple[FormPrediction | None, float]] = {
            "curved": (self.curved_prediction, x),
            "saturating": (self.saturating_prediction, 2.0**-x),
        }
        found: dict[Form, FormAt] = {}
        for form, value in self.at(width).items():
            prediction, s = own[form]
            if prediction is not None:
                half_width = prediction.half_width(s)
                found[form] = FormAt(value, half_width, half_width / prediction.quantile)
        return found


def expected_shape(distance: float, error: float, tilt: float) -> float:
    """The bowl's shape at a normal distance, on average: octaves^2; times curvature it is a loss.

    The shape is phi(d; L) = 2 (exp(L d) - 1 - L d) / L^2, so that the mean over d ~ N(distance,
    error^2) is 2 (exp(L distance + L^2 error^2 / 2) - 1 - L distance) / L^2. Without tilt that is
    distance^2 + error^2.

    Args:
        distance: octaves above the optimum.
        error: its standard error.
        tilt: L, per octave; above 0 when steeper above the optimum.
    """
    along = tilt * distance
    if abs(tilt) * max(abs(distance), error) < SMALL:
        cubic = distance**3 + 3 * distance * error**2
        return max(distance**2 + error**2 + tilt * cubic / 3, 0.0)
    power = min(along + (tilt * error) ** 2 / 2, MOST)
    return max(2 * (math.expm1(power) - along) / tilt**2, 0.0)
