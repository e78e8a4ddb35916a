"""Where one way to run steps fails, the next lower one goes on."""

from __future__ import annotations

import pytest

from mutransfer_cli.sweep.choice import Fault, Rung, next_lower
from mutransfer_cli.sweep.driver import retry_sentence
from mutransfer_cli.sweep.worker import Failed

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
    """The whole way down, by (compiled, captured, slots)."""
    steps, rung = [Rung(True, True, 5)], next_lower(Rung(True, True, 5), fault)
    while rung is not None:
        steps.append(rung)
        rung = next_lower(rung, fault)
    assert steps == [Rung(*step) for step in FAULTS[fault]]


def test_a_limit_takes_away_what_it_does_not_allow() -> None:
    assert Rung(True, False, 7).under(Rung(False, True, 3)) == Rung(False, False, 3)


@pytest.mark.parametrize(
    ("ran", "failed", "sentence"),
    [
        (
            Rung(True, True, 8),
            Failed("RuntimeError: no (a.py:1)", "rung", died=False),
            "width 64: a worker with 9 trials failed compiled and in a CUDA graph, "
            "RuntimeError: no (a.py:1); they go on in a CUDA graph, 8 side by side",
        ),
        (
            Rung(False, False, 8),
            Failed("its process ended with exit code 3", "rung", died=True),
            "width 64: a worker with 9 trials was lost, its process ended with exit code 3; they "
            "go on launched step by step, 4 side by side",
        ),
        (
            Rung(False, True, 8),
            Failed("CUDA out of memory", "memory", died=False),
            "width 64: out of memory with 8 trials side by side; going on with 4",
        ),
        (
            Rung(False, True, 8),
            Failed("its node is gone", "elsewhere", died=True),
            "width 64: a worker with 9 trials was lost, its node is gone; they go on in another",
        ),
    ],
)
def test_one_line_says_what_failed_and_how_it_goes_on(
    ran: Rung, failed: Failed, sentence: str
) -> None:
    assert retry_sentence(64, 9, ran, next_lower(ran, failed.fault), failed) == sentence
