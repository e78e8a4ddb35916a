"""Several sweeps on one page."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli.report.compare import differences, told_apart
from tests.cli.test_next_command import PROTOCOL
from tests.cli.test_own_table import write_table
from tests.report.pages import Page

Call = Callable[..., Any]


@pytest.fixture
def page(run: Call, tmp_path: Path) -> Page:
    """The page of two tables: one whose best rate stays, and one whose best rate falls."""
    stays, falls = write_table(tmp_path / "a.csv"), write_table(tmp_path / "b.csv", drift=-1.0)
    (tmp_path / "protocol.yaml").write_text(PROTOCOL)
    result = run("report", stays, falls, "--protocol", tmp_path / "protocol.yaml", "--width", "4k")
    assert result.exit_code == 0, result.stderr
    return Page(result.stdout, tmp_path)


def test_the_answers_stand_side_by_side(page: Page) -> None:
    assert "What to use at width 4000" in page.text
    assert "a.csvAt width 4000 use lr" in page.text
    assert "b.csvAt width 4000 use lr" in page.text
    assert "No target was given" not in page.text
    (table,) = (rows for name, rows in page.tables.items() if name.startswith("Exponents"))
    _, first, second = table
    assert (first[0], first[5], second[0], second[5]) == ("a.csv", "pass", "b.csv", "fail")
    assert float(second[2]) == pytest.approx(-1, abs=0.1)
    assert page.unnamed == 0
    assert len(page.ids) == len(set(page.ids))
    assert "Nothing that the protocols say" in page.text


def test_without_a_target_all_are_held_to_the_same_width(run: Call, tmp_path: Path) -> None:
    near = write_table(tmp_path / "near.csv", widths=(16, 32, 64, 128))
    far = write_table(tmp_path / "far.csv")
    page = Page(run("report", near, far).stdout, tmp_path)
    assert "What to use at width 4096No target was given (--width)" in page.text
    assert "near.csvAt width 4096 use lr" in page.text
    assert "Width 4096 is 32 times the largest fitted width" in page.text
    assert "Width 4096 is 8 times the largest fitted width" in page.text


def test_the_figures_share_their_axes(page: Page) -> None:
    titles = list(page.pictures)
    assert titles == [
        "a.csv: loss against learning rate by width",
        "b.csv: loss against learning rate by width",
        "a.csv: optimal learning rate against width",
        "b.csv: optimal learning rate against width",
    ]
    drawings = re.findall(r"<svg role.*?</svg>", page.html, flags=re.DOTALL)
    heights = [re.findall(r">(2[⁻⁰¹²³⁴⁵⁶⁷⁸⁹·]+)<", drawing) for drawing in drawings[2:]]
    assert heights[0] == heights[1]


def test_what_differs_is_a_table() -> None:
    protocols: dict[str, dict[str, Any]] = {
        "a": {"depth": 2, "batch": 4},
        "b": {"depth": 4, "batch": 4, "clip": 1.0},
    }
    assert differences(protocols) == [["depth", "2", "4"], ["clip", "", "1.0"]]


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (["runs/a", "runs/b"], ["a", "b"]),
        (["x/run", "y/run"], ["x/run", "y/run"]),
        (["x/run", "y/run", "z"], ["x/run", "y/run", "z"]),
    ],
)
def test_equal_names_are_told_apart(sources: list[str], names: list[str]) -> None:
    assert told_apart([Path(source) for source in sources]) == names


def test_one_source_twice_is_refused(run: Call, tmp_path: Path) -> None:
    table = write_table(tmp_path / "a.csv")
    result = run("report", table, table)
    assert result.exit_code == 2
    assert "is given twice" in result.stderr
