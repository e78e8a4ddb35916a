"""The table of the papers' experiments says what the records say."""

from __future__ import annotations

import pytest
import yaml
from pydantic import ValidationError

from benchmarks.experiments import README, VARIANT, Claim, experiments, measured, rows
from benchmarks.experiments_judge import Found, judged, loss_difference, near, records_of
from benchmarks.experiments_table import table
from mutransfer_cli.spec.sources import shipped_recipes


def test_every_recipe_of_a_paper_is_an_experiment() -> None:
    papers = ("everett/", "fan/", "lingle/")
    shipped = {name for name in shipped_recipes() if name.startswith(papers)}
    assert {row.spec for row in rows()} == shipped


def test_experiments_that_are_run_here_have_a_small_variant() -> None:
    for row in rows():
        assert (
            VARIANT
            in (yaml.safe_load(shipped_recipes()[row.spec].read_text()).get("variants") or {})
        ) == row.small, row.spec


def test_the_table_is_that_of_the_records() -> None:
    assert table(experiments()) == README.read_text()


def test_a_claim_is_one() -> None:
    with pytest.raises(ValidationError, match="give one of"):
        Claim()
    with pytest.raises(ValidationError, match="give one of"):
        Claim(exponent=0, drifts=True)


def test_agreement_is_three_valued() -> None:
    found = measured("everett/adam-full-standard")
    assert found is not None
    assert [
        judged(claim, found)[1]
        for claim in (
            Claim(exponent=0),
            Claim(exponent=-1),
            Claim(exponent=0.2),
            Claim(drifts=True),
        )
    ] == ["yes", "no", "not resolved", "no"]
    assert near(Found(0.2, 0.1, 0.4), 0.0, within=0.25) == "not resolved"


def test_losses_are_compared_by_width_and_seed() -> None:
    found = measured("everett/adam-full-standard")
    assert found is not None
    same = loss_difference(records_of(found), records_of(found))
    assert (same.value, same.low, same.high) == (0, 0, 0)
