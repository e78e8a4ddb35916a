"""Verdicts, and how many widths would decide them."""

from __future__ import annotations

import pytest

from mutransfer_cli.check.measure import runs_to_decide, verdict_of, widths_to_decide, worst


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.05, 0.05, "pass"),
        (-0.1, 0.1, "pass"),
        (-0.11, 0.05, "inconclusive"),
        (0.05, 0.3, "inconclusive"),
        (-0.5, 0.5, "inconclusive"),
        (0.11, 0.3, "fail"),
        (-0.3, -0.11, "fail"),
    ],
)
def test_the_interval_decides_and_not_the_value(low: float, high: float, verdict: str) -> None:
    assert verdict_of(low, high, expected=0, tolerance=0.1) == verdict
    assert verdict_of(low - 1, high - 1, expected=-1, tolerance=0.1 + 1e-9) == verdict


def test_one_failure_fails_and_one_open_question_leaves_all_open() -> None:
    assert worst(["pass", "fail", "inconclusive"]) == "fail"
    assert worst(["pass", "inconclusive"]) == "inconclusive"
    assert worst(["pass", "pass"]) == "pass"
    assert worst([]) == "inconclusive"


def test_widths_that_decide() -> None:
    """The lever is longer with a larger width, and t falls from 4.30 to 3.18."""
    present = (16, 32, 64, 128)  # sum of squares 5
    assert widths_to_decide(0.12, 0.1, present) == (192,)  # sum of squares 8.48
    # 0.16 * (3.18 / 4.30) * sqrt(5 / 8.48) = 0.091
    assert widths_to_decide(0.16, 0.090, present) == (192, 256)
    assert widths_to_decide(0.16, 0.092, present) == (192,)
    assert widths_to_decide(0.2, 0.1, (12, 24, 48)) == (96,)
    assert widths_to_decide(50.0, 0.01, present) is None


def test_runs_that_decide() -> None:
    assert runs_to_decide(0.2, 0.1) == 4
    assert runs_to_decide(0.05, 0.1) == 1
    assert runs_to_decide(0.2, 0.0) is None
