"""The shape of a bowl: a parabola that may be steeper on one side.

phi(d; L) = 2 (exp(L d) - 1 - L d) / L^2 = d^2 + L d^3 / 3 + L^2 d^4 / 12 + ..., with d octaves from
the optimum and L the tilt per octave: linear far below the optimum, exponential above it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

TERMS = 18  # of the series, which unlike the closed form is exact at L = 0
REACH = 4.0  # octaves; beyond it the series is not needed


def shape(distance: Array, tilt: Array) -> tuple[Array, Array, Array]:
    """phi, its derivative by distance, and its derivative by tilt, each in distance's shape."""
    d = np.clip(distance, -REACH, REACH)
    value, by_distance, by_tilt = np.zeros_like(d), np.zeros_like(d), np.zeros_like(d)
    term = 2 * d  # 2 L^j d^(j+1) / (j+1)!
    previous = np.zeros_like(d)
    for j in range(TERMS):
        by_distance += term
        here = term * d / (j + 2)
        value += here
        by_tilt += j * previous
        previous = here * d / (j + 3)
        term = term * (tilt * d) / (j + 2)
    return value, by_distance, by_tilt
