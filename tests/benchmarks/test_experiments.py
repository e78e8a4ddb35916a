"""The table of the papers' experiments agrees with the records."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

import benchmarks.experiments
from benchmarks.experiments import (
    README,
    VARIANT,
    Claim,
    archive,
    experiments,
    measured,
    pack,
    packed,
    rows,
)
from benchmarks.experiments_judge import Found, judged, loss_difference, near
from benchmarks.experiments_table import table
from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.sources import load_spec, shipped_recipes


def test_every_recipe_of_a_paper_is_an_experiment() -> None:
    papers = ("everett/", "fan/", "lingle/")
    shipped = {name for name in shipped_recipes() if name.startswith(papers)}
    assert {row.spec for row in rows()} == shipped


def test_experiments_that_are_run_here_have_a_small_variant() -> None:
    for row in rows():
        if row.small:
            load_spec(row.spec, VARIANT)
        else:
            with pytest.raises(InputError, match=f"variant {VARIANT}: unknown"):
                load_spec(row.spec, VARIANT)


def test_a_new_measurement_replaces_the_old_one_in_the_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmarks.experiments, "MEASURED", tmp_path)
    pack("paper/b", "jsonl", b"old")
    pack("paper/a", "spectrum.jsonl", b"other")
    pack("paper/b", "jsonl", b"new")
    assert packed("paper/b", "jsonl") == b"new"
    assert packed("paper/a", "spectrum.jsonl") == b"other"
    once = archive("paper/b").read_bytes()
    pack("paper/b", "jsonl", b"new")
    assert archive("paper/b").read_bytes() == once


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
    same = loss_difference(found.records, found.records)
    assert (same.value, same.low, same.high) == (0, 0, 0)
