"""What a fit says: optima by width, the law across widths, status and warnings."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from mutransfer_cli.fit.judge import BowlStatus, Side

LEVEL = 0.95

FitStatus = Literal["ok", "insufficient", "ridge"]


@dataclass(frozen=True)
class Bowl:
    """The optimum at one width; log2 units.

    Attributes:
        status: `ok`, or why the optimum is not used.
        side: where the optimum lies when it is not bracketed.
        optimum, low, high: with its interval; None unless ok.
        loss: at the optimum, nats; noise: sd of a cell's mean loss. None for given optima.
        curvature: nats per octave^2; tilt: per octave, above 0 when steeper above the optimum.
        form: how far the optimum of a parabola lies from it, octaves; the interval holds no such
            error of form.
        near_edge: the optimum is ok but less than an octave from an end of the grid.
        n: cells with finite losses that are not broken, or optima given.
    """

    status: BowlStatus
    side: Side | None = None
    optimum: float | None = None
    low: float | None = None
    high: float | None = None
    loss: float | None = None
    noise: float | None = None
    curvature: float | None = None
    tilt: float | None = None
    form: float | None = None
    near_edge: bool = False
    n: int = 0


@dataclass(frozen=True)
class Forms:
    """Forms beside the straight line, of 5 widths or more; log2 units, x = log2 width - centre.

    Attributes:
        value, exponent, bend: of the curved form value + exponent * x + bend * x^2.
        limit, drift: of the saturating form limit + drift * 2^-x, in which finite width drifts
            away as 1/n.
        bend_error, drift_error: standard errors.
    """

    centre: float
    value: float
    exponent: float
    bend: float
    bend_error: float
    limit: float
    drift: float
    drift_error: float


@dataclass(frozen=True)
class Law:
    """log2 optimum = value + exponent * (log2 width - centre), log2 units; half-widths at LEVEL.

    Attributes:
        half_width: of the exponent, the larger of the next two.
        law_half_width: for widths like these, scatter between them included.
        measurement_half_width: for exactly these widths, if there were no scatter.
        value_half_width: of the line at the centre, where it is independent of the slope.
        scatter: sd of the true optima about the line, octaves.
        without_largest: the exponent without the largest width; None with three widths.
        future_half_width, future_per_octave: one future optimum lies within
            hypot(future_half_width, future_per_octave * (log2 width - future_centre)), which is
            future_quantile standard errors.
        widths: number of widths.
        form_spread: exponent of tilted bowls minus that of parabolas; None without bowls.
        form_interval: its interval over resampled losses; None where none were drawn.
        tilt_drift, tilt_drift_error: of the tilt per doubling of width, and its standard error.
        forms: None with fewer than five widths.
        assumed_scatter: octaves below which the user says that the scatter lies; None where the
            scatter is learned.
    """

    exponent: float
    half_width: float
    law_half_width: float
    measurement_half_width: float
    centre: float
    value: float
    value_half_width: float
    scatter: float
    without_largest: float | None
    future_centre: float
    future_half_width: float
    future_per_octave: float
    future_quantile: float
    widths: int
    form_spread: float | None = None
    form_interval: tuple[float, float] | None = None
    tilt_drift: float | None = None
    tilt_drift_error: float | None = None
    forms: Forms | None = None
    assumed_scatter: float | None = None

    def at(self, log2_width: float) -> float:
        """log2 optimum on the line."""
        return self.value + self.exponent * (log2_width - self.centre)


@dataclass(frozen=True)
class Fit:
    """The exponent of one hyperparameter's optimum in width.

    Attributes:
        axis: the hyperparameter.
        status: `ok`; `insufficient` when fewer than three widths have a usable optimum; `ridge`
            when only a combination with another hyperparameter has one.
        sentence: the status for a person, with what to do.
        bowls: by width, log2 units.
        law: the line across widths; None unless ok.
        warnings: by code, each a sentence.
        level: of every interval.
    """

    axis: str
    status: FitStatus
    sentence: str
    bowls: dict[int, Bowl]
    law: Law | None
    warnings: dict[str, str]
    level: float = LEVEL

    @property
    def value(self) -> float | None:
        """The exponent; None unless the status is ok."""
        return self.law.exponent if self.law else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the exponent, at `level`; None unless the status is ok."""
        if self.law is None:
            return None
        return self.law.exponent - self.law.half_width, self.law.exponent + self.law.half_width

    @property
    def residuals(self) -> dict[int, float]:
        """Octaves by which the optimum of each usable width lies above the line."""
        if self.law is None:
            return {}
        return {
            width: bowl.optimum - self.law.at(math.log2(width))
            for width, bowl in self.bowls.items()
            if bowl.status == "ok" and bowl.optimum is not None
        }

    @property
    def n(self) -> int:
        """Widths that the exponent is fitted to."""
        return self.law.widths if self.law else 0


def warned(fit: Fit, warnings: dict[str, str]) -> Fit:
    """The fit with further warnings, by code."""
    return replace(fit, warnings=fit.warnings | warnings) if warnings else fit
