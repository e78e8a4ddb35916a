"""If one way to run steps fails, the next lower rung continues."""

from __future__ import annotations

import pytest

from mutransfer_cli.sweep.choice import Fault, Rung, next_lower

FAULTS: dict[Fault, list[tuple[bool, bool, int]]] = {
    "rung": [
        (True, True, 5),
        (False, True, 5),
        (False, False, 5),
        (False, False, 2),
        (False, False, 1),
    ],
    "capture": [(True, True, 5), (False, False, 5), (False, False, 2), (False, False, 1)],
    "memory": [(True, True, 5), (True, True, 2), (True, True, 1)],
    "elsewhere": [(True, True, 5)],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_ladder_goes_down_to_one_trial_launched_alone(fault: Fault) -> None:
    """The rungs from top to bottom are (compiled, captured, slots)."""
    steps, rung = [Rung(True, True, 5)], next_lower(Rung(True, True, 5), fault)
    while rung is not None:
        steps.append(rung)
        rung = next_lower(rung, fault)
    assert steps == [Rung(*step) for step in FAULTS[fault]]


def test_a_limit_takes_away_what_it_does_not_allow() -> None:
    assert Rung(True, False, 7).under(Rung(False, True, 3)) == Rung(False, False, 3)
