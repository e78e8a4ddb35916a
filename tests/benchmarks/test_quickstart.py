"""The benchmark of the quickstart's first check: fresh seeds, and one run of the whole chain."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.quickstart import measured, row, seed_sets
from mutransfer_cli.spec.sources import load_spec


@pytest.mark.parametrize("name", ["quickstart", "quickstart-standard"])
def test_sets_of_seeds_share_none_and_the_first_is_the_recipe_s(name: str) -> None:
    own, *fresh = seed_sets(name, 0, 11)
    assert own == load_spec(name)[0].sweep.seeds
    seeds = [seed for one in (own, *fresh) for seed in one]
    assert len(set(seeds)) == len(seeds) == 11 * len(own)
    assert seed_sets(name, 1, 10) == fresh


@pytest.mark.slow
def test_the_first_check_is_green(tmp_path: Path) -> None:
    (seeds,) = seed_sets("quickstart", 0, 1)
    found = measured("quickstart", seeds, tmp_path)
    assert found.check.verdict == "pass", row(seeds, found)
    assert [gate.gate for gate in found.check.gates] == ["exponent", "transfer"]
    assert "| pass | pass | pass |" in row(seeds, found)
