from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mutransfer_cli.cli.progress import (
    LONGEST_BAR,
    SHORTEST_BAR,
    Best,
    Screen,
    State,
    progress_line,
    stopped,
    table_lines,
)
from tests.cli.terminal import Terminal

STATE = State(0.437, 83.0, [96, 128], 28, 3, Best(2.63, 0.0185, 128))
LARGE = State(
    0.99, 47.9 * 3600, [16384, 32768], 1_234_567, 234_567, Best(12.345, 0.000123456, 32768)
)
STATES = {
    "usual": STATE,
    "large": LARGE,
    "at the start": State(0.0, None, [], 0, 0, None),
    "many widths": replace(LARGE, widths=range(1024, 65537, 1024)),
    "at the end": replace(STATE, share=1.0, left=0.0, widths=[]),
    "months": replace(LARGE, left=123 * 86400.0),
}
ROW = {
    "width": "65536",
    "trials": "1234567",
    "done": "1234566",
    "alive": "1111111",
    "diverged": "123456",
    "failed": "123456",
    "best lr": "0.000123",
    "loss": "12.34",
    "tokens/s": "123,456,789",
    "trials/h": "1,234,567",
    "FLOP/s": "1.2e+15",
    "of peak": "100%",
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_a_line_fits_between_60_and_200_columns(state: State) -> None:
    for columns in range(60, 201):
        line = progress_line(state, columns)
        assert len(line) < columns
        bar, percent, *_ = line.split()
        assert SHORTEST_BAR <= len(bar) <= LONGEST_BAR
        assert bar.strip("━─") == ""
        assert percent == f"{int(100 * state.share)}%"


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (60, "━━━───  43%  83 s  w96,128  28 alive 3 div  lr 0.0185 2.630"),
        (80, "━━━━─────  43%  1 min 20 s left  w96,128  28 alive 3 div  lr 0.0185, loss 2.630"),
        (
            140,
            "━" * 13 + "─" * 16 + "  43%  about 1 min 20 s left  widths 96 and 128  "
            "28 alive, 3 diverged  best lr 0.0185 at width 128, loss 2.630",
        ),
    ],
)
def test_a_line_says_all_it_has_room_for(columns: int, expected: str) -> None:
    assert progress_line(STATE, columns) == expected


def test_more_room_never_says_less() -> None:
    lengths = [len(progress_line(STATE, columns).lstrip("━─")) for columns in range(60, 201)]
    assert lengths == sorted(lengths)


@pytest.mark.parametrize("columns", [60, 80, 110, 200])
def test_a_table_has_the_columns_that_fit_and_cuts_none(columns: int) -> None:
    lines = table_lines([ROW, ROW | {"width": "16"}], columns)
    assert len({len(line) for line in lines}) == 1
    assert len(lines[0]) < columns
    names = lines[0].replace("best lr", "best_lr").replace("of peak", "of_peak").split()
    names = [name.replace("_", " ") for name in names]
    assert lines[1].split() == [ROW[name] for name in names]
    for at_least, name in [(60, "best lr"), (60, "diverged"), (80, "trials"), (200, "FLOP/s")]:
        assert (columns >= at_least) <= (name in names), name


def test_no_rows_have_no_table() -> None:
    assert table_lines([], 80) == []


class Stream(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing but what the test asks for."""
    monkeypatch.setattr("mutransfer_cli.cli.progress.REFRESH", 1e-3)


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Stream:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("LINES", "12")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Stream()


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.usefixtures("still")
def test_large_numbers_are_neither_cut_nor_wrapped(
    columns: int, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    terminal = Terminal(columns, rows=12)

    def show() -> None:
        terminal.feed(stream.getvalue().replace("\n", "\r\n").encode())
        stream.truncate(stream.seek(0))

    monkeypatch.setattr(sys, "stderr", stream)
    with Screen() as screen:
        assert screen.live
        for state in STATES.values():
            lines = [progress_line(state, columns), *table_lines([ROW] * 8, columns)]
            screen.draws(lambda columns, rows, lines=lines: lines)  # type: ignore[misc]
            show()
            assert terminal.text == lines
            assert not terminal.cursor
        print("said meanwhile", file=sys.stderr)
    show()
    assert terminal.text == ["said meanwhile"]
    assert terminal.cursor
    assert not terminal.wrapped
    assert not terminal.unknown


def test_without_a_terminal_nothing_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    with Screen() as screen:
        screen.says("reading")
        screen.draws(lambda columns, rows: ["line"])
        assert not screen.live
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("saved", "trials"), [(0, "0 trials"), (1, "1 trial"), (56, "56 trials")])
def test_a_stopped_sweep_says_how_to_go_on(saved: int, trials: str) -> None:
    sentence = f"Stopped: {trials} saved in runs/x. Run the same command to resume."
    assert str(stopped(saved, Path("runs/x"))) == sentence
