"""Messages and tables for people."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from mutransfer_cli.cli.console import WIDE, console, note, print_prices, stdin_or, stdout_or
from mutransfer_cli.errors import InputError
from mutransfer_cli.sweep.choice import WidthPrice
from mutransfer_cli.train.cost import Cost
from mutransfer_cli.train.group_size import GroupSize


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_dash_or_nothing_is_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    assert stdout_or(None) is stdout_or(Path("-")) is None
    assert stdout_or(Path("file")) == Path("file")
    monkeypatch.setattr(sys, "stdin", io.StringIO("piped"))
    assert stdin_or([], "records") == [None]
    assert stdin_or([Path("a"), Path("-")], "records") == [Path("a"), None]


def test_a_terminal_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal())
    with pytest.raises(InputError, match="nothing to read: give records"):
        stdin_or(None, "records")


def test_notes_and_tables_go_to_their_streams(capsys: pytest.CaptureFixture[str]) -> None:
    note("first")
    console(to_stderr=True).print("second")
    console(to_stderr=False).print("result")
    assert capsys.readouterr() == ("result\n", "first\nsecond\n")
    assert console(to_stderr=False).width == WIDE


def test_prices_are_summed_and_extrapolated_ones_marked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    costs = Cost(131072, flops=1e11, trial_memory=1), Cost(458752, flops=2e11, trial_memory=1)
    one = WidthPrice(64, 14, 10, costs[0], GroupSize(7, 2_000_000_000), 30.0, measured=True)
    two = WidthPrice(128, 14, 10, costs[1], GroupSize(5, 3_000_000_000), 100.0, measured=False)
    print_prices([one, two], "cpu", workers=2)
    title, head, first, second, total, *notes = capsys.readouterr().out.splitlines()
    assert title.strip() == "what the sweep will cost (cpu)"
    assert head.split()[:3] == ["width", "trials", "to"]
    assert first.split() == ["64", "14", "10", "131,072", "7", "1.00e+12", "2.00", "GB", "30", "s"]
    assert second.rstrip().endswith("1 min 40 s *")
    assert total.split() == ["all", "3.00e+12", "2", "min", "10", "s"]
    assert notes[0].endswith("without compilation, divided among 2 workers")
    assert notes[1] == "* extrapolated from the throughput of a smaller width"
