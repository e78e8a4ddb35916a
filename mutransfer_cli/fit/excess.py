"""What a value that is not the optimum costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mutransfer_cli.fit.result import Bowl
from mutransfer_cli.fit.tilt import shape


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
