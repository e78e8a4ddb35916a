"""Verdicts by equivalence: an interval against what is expected, within a tolerance."""

from __future__ import annotations

from typing import Literal

Verdict = Literal["pass", "fail", "inconclusive"]


def verdict_of(low: float, high: float, expected: float, tolerance: float) -> Verdict:
    """Pass where the interval lies within the tolerance of what is expected, fail where it lies
    outside, else inconclusive.

    An interval that holds what is expected says nothing by itself: a wide one always does.
    """
    below, above = expected - tolerance, expected + tolerance
    if below <= low and high <= above:
        return "pass"
    if high < below or above < low:
        return "fail"
    return "inconclusive"
