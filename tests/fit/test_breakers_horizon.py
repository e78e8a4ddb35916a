from __future__ import annotations

from typing import Any

import pytest

from mutransfer_cli.fit.breakers import horizon_of, short_horizon
from mutransfer_cli.rules.schedule import schedule_factors
from mutransfer_cli.spec.protocol import DeclaredProtocol


def protocol(train: dict[str, Any], **section: Any) -> DeclaredProtocol:
    return DeclaredProtocol.model_validate(
        {
            "schema": "mutransfer.protocol/1",
            "parameterization": {"name": "mup", "base_width": 64, "weight_decay": "linear_width"}
            | section,
            "weight_decay_values": "base",
            "optimizer": {"name": "adamw"},
            "train": {"batch": 1} | train,
        }
    )


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        # the hidden rate scales as 1/width, and the rule raises its lr-coupled decay
        ({"weight_decay": "linear_width"}, 0.01 * 0.1 * 1000),
        ({"weight_decay": "constant"}, 0.01 / 4 * 0.1 * 1000),
        ({"weight_decay": "sqrt_width"}, 0.01 / 4 * 0.1 * 4**0.5 * 1000),
        ({"weight_decay": "constant", "decay_convention": "independent"}, 0.1 * 1000),
    ],
)
def test_it_is_the_sum_of_the_hidden_rate_times_its_decay(
    section: dict[str, Any], expected: float
) -> None:
    constant = protocol({"steps": 1000, "schedule": "constant"}, **section)
    assert horizon_of(constant, 256, 0.01, 0.1).value == pytest.approx(expected)


def test_a_weight_decay_whose_scaling_is_not_declared_is_taken_as_it_is() -> None:
    declared = protocol({"steps": 1000, "schedule": "constant"})
    silent = declared.model_copy(update={"weight_decay_values": None})
    assert horizon_of(silent, 256, 0.01, 0.1).value == pytest.approx(0.01 / 4 * 0.1 * 1000)


def test_the_schedule_counts_and_where_none_is_declared_it_is_an_upper_bound() -> None:
    train = {"steps": 200, "warmup": 20, "schedule": "cosine"}
    found = horizon_of(protocol(train), 64, 0.01, 0.1)
    assert found.value == pytest.approx(0.001 * sum(schedule_factors(200, 20, "cosine")))
    assert not found.at_most
    wsd = horizon_of(protocol(train | {"schedule": "wsd", "decay_fraction": 0.5}), 64, 0.01, 0.1)
    assert wsd.value == pytest.approx(0.001 * sum(schedule_factors(200, 20, "wsd", 0.5)))
    assert horizon_of(protocol({"steps": 200}), 64, 0.01, 0.1).at_most


def test_below_one_there_is_a_warning() -> None:
    long, short = (horizon_of(protocol({"steps": steps}), 64, 0.01, 0.1) for steps in (1001, 999))
    assert short_horizon(long) == {}
    assert "at most 0.999: below 1 the runs never reach" in short_horizon(short)["short_horizon"]
    assert short_horizon(None) == {}
