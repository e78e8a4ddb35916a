"""Notes, warnings and details are said as usual, less or more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mutransfer_cli.cli.console import console, note, warn
from mutransfer_cli.cli.talk import aloud, be_quiet, be_verbose, detail, is_quiet, talk_as_usual


@pytest.fixture(autouse=True)
def as_usual() -> Iterator[None]:
    talk_as_usual()
    yield
    talk_as_usual()


def say_all() -> None:
    note("a note")
    warn("a warning")
    detail(lambda: "a detail")
    console(to_stderr=True).print("a table")


def test_as_usual(capsys: pytest.CaptureFixture[str]) -> None:
    say_all()
    assert capsys.readouterr().err == "a note\nwarning: a warning\na table\n"


def test_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    be_quiet()
    say_all()
    console(to_stderr=False).print("a result")
    assert capsys.readouterr() == ("a result\n", "warning: a warning\n")


def test_a_result_that_is_nowhere_else_is_said_aloud(capsys: pytest.CaptureFixture[str]) -> None:
    be_quiet()
    with aloud(result=False):
        note("hidden")
    with aloud(result=True):
        note("the result")
    assert is_quiet()
    assert capsys.readouterr().err == "the result\n"


def test_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    be_verbose()
    say_all()
    assert capsys.readouterr().err == "a note\nwarning: a warning\na detail\na table\n"


def test_a_detail_is_made_only_if_it_is_said() -> None:
    detail(lambda: pytest.fail("made"))
