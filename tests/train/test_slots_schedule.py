from __future__ import annotations

from typing import Any

import pytest

from mutransfer_cli.spec.sweep import TrainSpec
from mutransfer_cli.train.slots import schedule_tensor


@pytest.mark.parametrize(
    ("schedule", "warmup", "factors"),
    [
        ("linear", 0, [1.0, 0.75, 0.5, 0.25]),
        ("constant", 0, [1.0, 1.0, 1.0, 1.0]),
        ("constant", 2, [0.5, 1.0, 1.0, 1.0]),
        ("linear", 2, [0.5, 1.0, 1.0, 0.5]),
        ("cosine", 0, [1.0, 0.8535534, 0.5, 0.1464466]),
    ],
)
def test_factors(schedule: Any, warmup: int, factors: list[float]) -> None:
    train = TrainSpec(steps=4, warmup=warmup, schedule=schedule)
    assert schedule_tensor(train).tolist() == pytest.approx(factors)


@pytest.mark.parametrize(
    ("fraction", "warmup", "factors"),
    [
        (0.4, 2, [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25]),
        (0.8, 2, [0.5, 1.0, 1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),
        (None, 0, [1.0] * 9 + [0.5]),  # a fifth
    ],
)
def test_wsd_holds_the_peak_and_decays_at_the_end(
    fraction: float | None, warmup: int, factors: list[float]
) -> None:
    train: dict[str, Any] = {"steps": 10, "warmup": warmup, "schedule": "wsd"}
    train |= {} if fraction is None else {"decay_fraction": fraction}
    assert schedule_tensor(TrainSpec(**train)).tolist() == pytest.approx(factors)


def test_wsd_after_a_decay_of_all_steps_is_linear() -> None:
    train = TrainSpec(steps=10, warmup=2, schedule="wsd", decay_fraction=0.8)
    linear = TrainSpec(steps=10, warmup=2, schedule="linear")
    assert schedule_tensor(train).tolist() == schedule_tensor(linear).tolist()
