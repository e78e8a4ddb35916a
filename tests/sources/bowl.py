"""A made-up sweep whose exponent is -1, to be logged with the real libraries."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

WIDTHS = (64, 128, 256, 512)
RATES = tuple(2.0**-k for k in range(3, 10))
EXPONENT = -1.0
STEPS = (100, 200, 300)


@dataclass(frozen=True)
class Bowl:
    """One run of the sweep."""

    width: int
    lr: float

    @property
    def name(self) -> str:
        """A name that says nothing about the values."""
        return f"run-{WIDTHS.index(self.width)}{RATES.index(self.lr)}"

    def loss(self, step: int = STEPS[-1]) -> float:
        """A parabola in log2(lr) about 2^-4.6 * 64 / width, with noise of 0.002.

        Before the last step the optimum is at 2^-4.6 at every width, so that a reader that takes
        another step, or the mean of all, finds another exponent.
        """
        drift = math.log2(self.width / 64) if step == STEPS[-1] else 0.0
        off = math.log2(self.lr) + 4.6 + drift
        noise = random.Random(f"{self.width} {self.lr} {step}").gauss(0, 0.002)
        late = 0.5 * (STEPS[-1] - step) / STEPS[-1]
        return 3.2 - 0.1 * math.log2(self.width / 64) + 0.08 * off**2 + late + noise


def runs() -> Iterator[Bowl]:
    """All runs: 4 widths x 7 rates."""
    for width in WIDTHS:
        for lr in RATES:
            yield Bowl(width, lr)
