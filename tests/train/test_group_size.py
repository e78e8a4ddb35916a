from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.cost import trial_cost
from mutransfer_cli.train.group_size import available_memory, most_slots
from tests.conftest import CPU

Prepare = Callable[[dict[str, Any]], Sweep]


def most(sweep: Sweep, width: int) -> int:
    return most_slots(sweep.protocol, width, trial_cost(sweep.protocol, width), CPU)


def test_memory_bounds_the_group(tiny: dict[str, Any], prepare: Prepare) -> None:
    sweep = prepare(tiny)
    size = most(sweep, 16)
    assert size > 1
    assert trial_cost(sweep.protocol, 16).memory(size) <= available_memory(CPU) // 2
    assert most(sweep, 8192) == 1


def test_a_trial_that_cannot_fit_is_refused_with_both_figures(
    tiny: dict[str, Any], prepare: Prepare
) -> None:
    with pytest.raises(InputError, match=r"width 8000000: one trial needs about \d+\.\d GB and"):
        most(prepare(tiny), 8_000_000)
