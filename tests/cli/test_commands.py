"""Commands are found by the beginnings of their names, and a wrong one gets the nearest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli.cli.commands import SUMMARIES, full_name
from mutransfer_cli.errors import InputError

FOLDER = Path(__file__).parents[2] / "mutransfer_cli" / "cli"
LONGEST = 80 - len("  fit-exponents  ")


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("fit", "fit-exponents"),
        ("sweep", "sweep-proxy"),
        ("t", "transfer"),
        ("docs", "docs"),
        ("rec", "recipes"),
        ("i", "init"),
    ],
)
def test_an_unambiguous_beginning_is_enough(typed: str, name: str) -> None:
    assert full_name(typed) == name


def test_a_shortened_command_is_the_command(run: Callable[..., Any]) -> None:
    assert run("fit", "-h").stdout == run("fit-exponents", "-h").stdout
    assert run("sch", "sweep").stdout == run("schema", "sweep").stdout


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("re", "re: could be recipes or report; write more of it"),
        ("fitt", "fitt: no such command; did you mean fit-exponents? `mutransfer --help` lists"),
        ("proxy", "proxy: no such command; did you mean sweep-proxy? "),
        ("trasnfer", "trasnfer: no such command; did you mean transfer? "),
        ("xyz", "xyz: no such command; `mutransfer --help` lists the commands"),
    ],
)
def test_another_word_is_refused_with_the_nearest(
    typed: str, sentence: str, run: Callable[..., Any]
) -> None:
    with pytest.raises(InputError):
        full_name(typed)
    result = run(typed, "--width", "8")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {sentence}")


def test_every_summary_is_one_line_of_a_command_that_is_there() -> None:
    for name, summary in SUMMARIES.items():
        assert (FOLDER / f"{name.replace('-', '_')}.py").exists()
        assert len(summary) <= LONGEST
        assert summary.endswith(".")
