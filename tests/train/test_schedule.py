from __future__ import annotations

from typing import Any

import pytest

from mutransfer_cli.files.spec import TrainSpec
from mutransfer_cli.train.schedule import schedule_tensor


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
