"""Verdicts by equivalence test, and what would decide an open one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

from scipy import stats

Verdict = Literal["pass", "fail", "inconclusive"]

OF_EXPONENTS = 0.1  # tolerance about the rule's: 7 % of a rate per doubling of width
MOST_WIDTHS = 64


def verdict_of(low: float, high: float, expected: float, tolerance: float) -> Verdict:
    """Pass: the interval lies within the tolerance about what is expected; fail: outside it."""
    if expected - tolerance <= low and high <= expected + tolerance:
        return "pass"
    if high < expected - tolerance or expected + tolerance < low:
        return "fail"
    return "inconclusive"


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Of several that all count; of none inconclusive."""
    found = set(verdicts)
    return "fail" if "fail" in found else "pass" if found == {"pass"} else "inconclusive"


def widths_to_decide(half_width: float, room: float, widths: int, level: float) -> int | None:
    """How many widths within the same range narrow the interval of an exponent to `room`.

    The half-width goes as t(k - 2) / sqrt(S) with S the sum of squares of k evenly spaced log
    widths, (k + 1) k / (k - 1) for a range of one. None where more than 64 would be needed.

    Args:
        half_width: with so many `widths`, scatter between them included.
        room: half-width at which the verdict is decided.
    """

    def factor(k: int) -> float:
        spread = (k + 1) * k / (k - 1)
        return float(stats.t.ppf((1 + level) / 2, k - 2)) / math.sqrt(spread)

    for k in range(max(widths, 3), MOST_WIDTHS + 1):
        if half_width * factor(k) / factor(max(widths, 3)) <= room:
            return k
    return None


def runs_to_decide(half_width: float, room: float) -> int | None:
    """By how many times more runs the same interval narrows to `room`: it goes as runs^-1/2."""
    if room <= 0:
        return None
    return max(1, math.ceil((half_width / room) ** 2))
