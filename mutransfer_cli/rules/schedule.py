"""The learning-rate schedule: factors on the peak rate, step by step."""

from __future__ import annotations

import math
from typing import Literal

ScheduleName = Literal["linear", "cosine", "constant", "wsd"]

DECAY_FRACTION = 0.2  # default of wsd


def decay_steps(steps: int, decay_fraction: float) -> int:
    """Number of steps at the end of a run in which wsd decays."""
    return round(decay_fraction * steps)


def schedule_factors(
    steps: int, warmup: int, schedule: ScheduleName, decay_fraction: float | None = None
) -> list[float]:
    """Factor on the peak rate at each step: linear warm-up, then the schedule.

    Step s (from 0) of the warm-up has (s + 1) / warmup. Progress p then runs from 0 to 1, and the
    factor is 1 - p (linear), (1 + cos(pi p)) / 2 (cosine) or 1 (constant). wsd (warm-up, stable,
    decay; Hu et al. 2024, arXiv 2404.06395, whose decay may have other shapes) is 1 until its last
    `decay_steps`, over which p runs from 0 to 1 and the factor is 1 - p.

    Args:
        decay_fraction: share of all steps in which wsd decays.
    """

    def after(progress: float) -> float:
        match schedule:
            case "linear" | "wsd":
                return 1 - progress
            case "cosine":
                return (1 + math.cos(math.pi * progress)) / 2
            case "constant":
                return 1.0

    rising = [(step + 1) / warmup for step in range(warmup)]
    rest = steps - warmup
    if schedule == "wsd":
        assert decay_fraction is not None, "given with wsd"
        rest = decay_steps(steps, decay_fraction)
    stable = [1.0] * (steps - warmup - rest)
    return rising + stable + [after(step / rest) for step in range(rest)]
