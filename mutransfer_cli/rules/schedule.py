"""The learning-rate schedule: factors on the peak rate, step by step."""

from __future__ import annotations

import math
from typing import Literal

ScheduleName = Literal["linear", "cosine", "constant"]


def schedule_factors(steps: int, warmup: int, schedule: ScheduleName) -> list[float]:
    """Factor on the peak rate at each step: linear warm-up, then the schedule.

    Step s (from 0) of the warm-up has (s + 1) / warmup; after it progress p runs from 0 to 1 and
    the factor is 1 - p (linear), (1 + cos(pi p)) / 2 (cosine) or 1 (constant).
    """

    def after(progress: float) -> float:
        match schedule:
            case "linear":
                return 1 - progress
            case "cosine":
                return (1 + math.cos(math.pi * progress)) / 2
            case "constant":
                return 1.0

    rising = [(step + 1) / warmup for step in range(warmup)]
    rest = steps - warmup
    return rising + [after(step / rest) for step in range(rest)]
