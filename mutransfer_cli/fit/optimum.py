"""The optimum at one width, and the runs that are not fitted."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import model_validator

from mutransfer_cli.fit.forms import expected_shape
from mutransfer_cli.strict import Count, NonNegative, Number, Positive, Strict

OptimumStatus = Literal[
    "ok",
    "too_few_points",
    "not_bracketed",
    "flat",
    "unresolved",
    "multimodal",
    "at_divergence",
]
Side = Literal["low", "high"]

EXACT = 1e-12  # octaves^2, on every variance: optima of losses without noise would weigh infinitely


def refuse_disorder(low: float, value: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"expected low <= value <= high, found {low:g}, {value:g}, {high:g}")


class Optimum(Strict):
    """The best value of a hyperparameter at one width; null unless the status is ok."""

    value: Positive | None
    """Where the loss is least, in the hyperparameter's own units."""
    low: Positive | None
    """Lower end of its interval, sampling error only."""
    high: Positive | None
    """Upper end of its interval, sampling error only."""
    status: OptimumStatus
    """Whether the optimum is used: ok, or why not."""
    side: Side | None = None
    """Which end of the grid the optimum lies beyond when it is not_bracketed."""
    loss: Number | None = None
    """Loss at the optimum, nats per token (mean squared error for samples)."""
    form: NonNegative | None = None
    """Octaves to the optimum of the same bowl in a narrower window: the error of its form."""
    curvature: NonNegative | None = None
    """Curvature of the loss, nats per octave^2."""
    tilt: Number | None = None
    """Relative change of the curvature per octave, above 0 when steeper above the optimum."""
    quartic: NonNegative | None = None
    """Fourth-power coefficient of bowls flat at the bottom, nats per octave^4; null where curvature
    and tilt suffice."""
    residual: Number | None = None
    """Octaves above the fitted line."""

    @model_validator(mode="after")
    def ok_has_an_interval(self) -> Optimum:
        if self.status != "ok":
            return self
        if self.low is None or self.value is None or self.high is None:
            raise ValueError("expected value, low and high of an optimum that is ok")
        refuse_disorder(self.low, self.value, self.high)
        return self

    def expected_excess(self, distance: float, error: float) -> float | None:
        """Mean loss of a value above that at the optimum, in the loss's unit; None without a bowl.

        Args:
            distance: octaves above the optimum, on average.
            error: its standard deviation; the distance is normal.
        """
        if self.curvature is None:
            return None
        fourth = distance**4 + 6 * distance**2 * error**2 + 3 * error**4
        phi = expected_shape(distance, error, self.tilt or 0.0)
        return self.curvature * phi + (self.quartic or 0.0) * fourth

    @property
    def octaves(self) -> tuple[float, float, float]:
        """log2 of low, value and high; the status must be ok."""
        assert self.low is not None and self.value is not None and self.high is not None  # noqa: PT018
        return math.log2(self.low), math.log2(self.value), math.log2(self.high)


class LeftOut(Strict):
    """Runs that the bowl of their width cannot explain, which are not fitted."""

    reason: Literal["bad_run", "broken"]
    """Why they are not fitted: bad_run, one run far off the bowl through all others; or broken, the
    runs of a value above the optimum that no bowl reaches, finite as they are."""
    width: Count
    """The width, in features."""
    value: Positive
    """The hyperparameter's value."""
    seed: str | None
    """The seed of a bad run, where it has one."""
    loss: Number
    """The loss of the bad run, or the mean loss of broken ones."""
    excess: Number
    """The loss above the bowl fitted without them, in the loss's unit."""
