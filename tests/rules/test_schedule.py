"""Factors on the peak rate, checked step by step against values worked by hand."""

from __future__ import annotations

import pytest

from mutransfer_cli.rules.schedule import ScheduleName, decay_steps, schedule_factors


@pytest.mark.parametrize(
    ("schedule", "after"),
    [
        ("linear", [1.0, 0.75, 0.5, 0.25]),
        ("constant", [1.0, 1.0, 1.0, 1.0]),
        ("cosine", [1.0, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2]),
    ],
)
def test_a_warm_up_and_then_the_schedule(schedule: ScheduleName, after: list[float]) -> None:
    assert schedule_factors(6, 2, schedule) == pytest.approx([0.5, 1.0, *after])


def test_wsd_is_stable_until_its_last_steps() -> None:
    assert decay_steps(10, 0.4) == 4
    expected = [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]
    assert schedule_factors(10, 2, "wsd", 0.4) == pytest.approx(expected)


def test_without_a_warm_up_the_first_step_has_the_peak_rate() -> None:
    assert schedule_factors(2, 0, "linear") == [1.0, 0.5]
