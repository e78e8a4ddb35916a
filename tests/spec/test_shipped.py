"""The shipped specs are listed with the right trials, and about the right cost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mutransfer_cli.spec.shipped import CORE_FLOPS, Line, chapters, is_matrix, text_of
from mutransfer_cli.spec.sources import load_spec, shipped_recipes

RUNS = Path(__file__).parents[2] / "recipes" / "measured" / "runs.json"
LINES = [line for chapter in chapters() for line in chapter.lines]


def names_of(line: Line) -> list[str]:
    return [f"{line.name}-{end}" for end in line.ends] or [line.name]


def test_every_spec_is_in_one_line() -> None:
    found = [name for line in LINES for name in names_of(line)]
    assert sorted(found) == sorted(shipped_recipes())


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
def test_trials_are_those_of_the_spec(line: Line) -> None:
    for name in names_of(line)[:2]:
        assert load_spec(name, "cpu" if line.small else None)[0].sweep.size == line.trials


def test_costs_are_those_measured_within_a_factor_of_four() -> None:
    """Most are within a factor of two."""
    seconds = {name: run["seconds"] for name, run in json.loads(RUNS.read_text()).items()}
    ratios = [
        line.flops / CORE_FLOPS / seconds[name]
        for line in LINES
        for name in names_of(line)
        if name in seconds and line.flops is not None
    ]
    assert len(ratios) > 60
    assert all(1 / 4 < ratio < 4 for ratio in ratios)
    assert sum(1 / 2 < ratio < 2 for ratio in ratios) > 0.7 * len(ratios)


@pytest.mark.parametrize(
    ("name", "compares"),
    [
        ("everett/sgd-full", "Rates by layer under full alignment: the best base rate is then "
         "expected to be the same at all widths"),
        ("lingle/cosine", "schedule: cosine"),
        ("lingle/batch-4x", "Batches of four times the size, a quarter of the steps, rates twice "
         "as high"),
        ("fan/constant", "weight_decay: constant"),
    ],
)  # fmt: skip
def test_a_line_says_what_is_compared(name: str, compares: str) -> None:
    (line,) = (line for line in LINES if line.name == name)
    assert line.compares == compares


def test_heads_name_the_papers() -> None:
    heads = [chapter.head for chapter in chapters()]
    assert [head.split()[0] for head in heads[1:]] == ["Everett", "Fan", "Lingle"]
    assert all("arXiv" in head and "mutransfer" not in head for head in heads[1:])


def test_matrices_are_told_from_specs() -> None:
    assert [name for name in ("everett", "quickstart", "gone") if is_matrix(name)] == ["everett"]


def test_a_plain_spec_is_its_file() -> None:
    assert text_of("quickstart") == shipped_recipes()["quickstart"].read_text()
