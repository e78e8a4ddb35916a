"""Error rates of gates over simulated cases; `make bench-fit` prints a table of more worlds."""

from __future__ import annotations

import pytest

from benchmarks.check_errors import LOSS, exponent_verdicts, transfer_verdicts
from mutransfer_cli.check.exponent import TOLERANCE
from mutransfer_cli.check.transfer import SHARE
from tests.fit.worlds import World

CASES = 500


@pytest.mark.parametrize("world", [World(), World(scatter=0.1)], ids=str)
def test_the_exponent_fails_and_passes_wrongly_in_a_twentieth_at_most(world: World) -> None:
    right = exponent_verdicts(world, CASES, 0.0, seed=3)
    wrong = exponent_verdicts(world, CASES, 2 * TOLERANCE, seed=4)
    assert right["fail"] <= 0.05 * CASES
    assert wrong["pass"] <= 0.05 * CASES
    assert right["pass"] > 0
    assert wrong["fail"] > 0


@pytest.mark.parametrize("world", [World(), World(scatter=0.1)], ids=str)
def test_so_does_the_transfer(world: World) -> None:
    right = transfer_verdicts(world, CASES, 0.0, seed=3)
    wrong = transfer_verdicts(world, CASES, 2 * SHARE * LOSS, seed=4)
    assert right["fail"] <= 0.05 * CASES
    assert wrong["pass"] <= 0.05 * CASES
    assert right["pass"] > 0.9 * CASES
    assert wrong["fail"] > 0.8 * CASES
