"""Three-valued verdicts of an interval within a tolerance."""

from __future__ import annotations

import pytest

from mutransfer_cli.fit.equivalence import Verdict, verdict_of


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.05, 0.05, "pass"),
        (-0.1, 0.1, "pass"),
        (-0.11, 0.05, "inconclusive"),
        (-0.05, 0.3, "inconclusive"),
        (-1.0, 1.0, "inconclusive"),
        (0.05, 0.2, "inconclusive"),
        (0.11, 0.2, "fail"),
        (-0.3, -0.11, "fail"),
    ],
)
@pytest.mark.parametrize("expected", [0.0, -1.0])
def test_inside_passes_outside_fails(
    low: float, high: float, verdict: Verdict, expected: float
) -> None:
    tolerance = 0.1 + 1e-12
    assert verdict_of(expected + low, expected + high, expected, tolerance) == verdict
