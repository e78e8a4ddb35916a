"""The pictures of a fit: what stands where, and in how much room."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from string import ascii_lowercase

import pandas as pd
import pytest

from mutransfer_cli.cli.picture import draw_bowls, draw_optima
from mutransfer_cli.fit.exponents import Line, Optimum

BEST = {16: -5.0, 32: -6.0, 64: -7.0}  # log2 of the best rate
LOSS = {16: 3.0, 32: 2.5, 64: 2.0}
MANY = {16 * k: -4 - math.log2(k) for k in range(1, 16)}
LINE = Line(width=32, value=2**-6, low=2**-6.1, high=2**-5.9, scatter=0)
MISSED = Optimum(value=None, low=None, high=None, status="not_bracketed", side="low")
Draw = Callable[[Mapping[int, float], int, bool], str]
BRAILLE = re.compile("[\u2801-\u28ff]")
FRAMED = re.compile(r"[┤│](.*)│$")


def sweep(best: Mapping[int, float] = BEST, grid: range = range(-10, -1)) -> pd.DataFrame:
    """Parabolas without noise, two seeds."""
    rows = [
        {"width": width, "lr": 2.0**x, "eval_loss": LOSS.get(width, 2.0) + 0.03 * (x - at) ** 2}
        for width, at in best.items()
        for x in grid
        for _ in range(2)
    ]
    return pd.DataFrame(rows)


def optima(best: Mapping[int, float] = BEST) -> dict[int, Optimum]:
    return {
        width: Optimum(
            value=2**at,
            low=2 ** (at - 0.6),
            high=2 ** (at + 0.6),
            status="ok",
            loss=LOSS.get(width, 2.0),
        )
        for width, at in best.items()
    }


def bowls_of(best: Mapping[int, float], columns: int = 80, colour: bool = False) -> str:
    return draw_bowls("lr", sweep(best), optima(best), columns, colour)


def optima_of(best: Mapping[int, float], columns: int = 80, colour: bool = False) -> str:
    return draw_optima("lr", optima(best), LINE, -1.0, columns, colour)


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def places(text: str, mark: str) -> list[tuple[int, int]]:
    """Row and column of each such mark inside the frame."""
    return [
        (row, column)
        for row, line in enumerate(text.splitlines())
        if (inside := FRAMED.search(line))
        for column in range(inside.start(1), inside.end(1))
        if line[column] == mark
    ]


def row_of(text: str, tick: str) -> int:
    (row,) = [i for i, line in enumerate(text.splitlines()) if line.strip().startswith(f"{tick}┤")]
    return row


def column_of(text: str, tick: str) -> int:
    """Of the mark above the label on the x axis."""
    axis, labels = text.splitlines()[-3:-1]
    marks = [i for i, character in enumerate(axis) if character == "┬"]
    return marks[labels.split().index(tick)]


def near(found: tuple[int, int], row: int, column: int) -> bool:
    return abs(found[0] - row) <= 1 and abs(found[1] - column) <= 1


def test_a_capital_stands_at_each_optimum_on_its_interval() -> None:
    text = bowls_of(BEST, 100)
    octave = column_of(text, "2^-5") - column_of(text, "2^-6")
    for letter, rate, loss in (("A", "2^-5", "3"), ("B", "2^-6", "2.5"), ("C", "2^-7", "2")):
        (place,) = places(text, letter)
        assert near(place, row_of(text, loss), column_of(text, rate))
        bar = [column for row, column in places(text, "━") if row == place[0]]
        assert min(bar) < place[1] < max(bar)
        assert max(bar) - min(bar) == pytest.approx(1.2 * octave, abs=2)


def test_a_dot_stands_at_each_optimum_on_its_interval() -> None:
    text = optima_of(BEST)
    dots = sorted(places(text, "●"), key=lambda place: place[1])
    assert len(dots) == 3
    for dot, width, rate in zip(dots, ("16", "32", "64"), ("2^-5", "2^-6", "2^-7"), strict=True):
        assert near(dot, row_of(text, rate), column_of(text, width))
        bar = [row for row, column in places(text, "┃") if column == dot[1]]
        assert min(bar) < dot[0] < max(bar)


def test_the_line_falls_with_the_exponent_where_there_is_one() -> None:
    text = optima_of(BEST)
    line = {place[::-1] for mark in BRAILLE.findall(text) for place in places(text, mark)}
    assert abs(min(line)[1] - row_of(text, "2^-5")) <= 1
    assert abs(max(line)[1] - row_of(text, "2^-7")) <= 1
    assert not BRAILLE.search(draw_optima("lr", optima(), None, None, 80, False))


@pytest.mark.parametrize("best", [BEST, MANY, {64: -6.0}])
def test_every_width_is_named(best: dict[int, float]) -> None:
    text = bowls_of(best)
    for letter, width in zip(ascii_lowercase, best, strict=False):
        assert re.search(rf"│{letter} {width}\b|┤{letter} {width}\b", text)


@pytest.mark.parametrize(
    ("best", "columns", "named"),
    [(BEST, 80, "16 32 64"), (MANY, 80, "16 32 48 64 80 112 144 192 240"), ({64: -6.0}, 80, "64")],
)
def test_widths_are_named_where_there_is_room(
    best: dict[int, float], columns: int, named: str
) -> None:
    assert optima_of(best, columns).splitlines()[-2].split() == named.split()


@pytest.mark.parametrize("columns", [40, 80, 110])
@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("best", [BEST, MANY, {64: -6.0}])
@pytest.mark.parametrize("draw", [bowls_of, optima_of])
def test_the_room_is_kept(draw: Draw, best: dict[int, float], columns: int, colour: bool) -> None:
    text = draw(best, columns, colour)
    lines = plain(text).splitlines()
    assert max(map(len, lines)) == columns
    assert 16 <= len(lines) <= 20
    assert all(line == line.rstrip() for line in lines)
    assert ("\x1b" in text) == colour
    assert plain(text) == draw(best, columns, False)


def test_neither_the_terminal_nor_an_earlier_picture_matters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = bowls_of(BEST), optima_of(MANY)
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("LINES", "5")
    bowls_of(MANY, 110, True)
    assert (bowls_of(BEST), optima_of(MANY)) == first
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("loss", [math.nan, math.inf, 1e30])
def test_what_is_far_above_does_not_squash_the_rest(loss: float) -> None:
    trials = sweep()
    trials.loc[trials["lr"] == 2**-2, "eval_loss"] = loss
    text, usual = draw_bowls("lr", trials, optima(), 80, False), bowls_of(BEST)
    for letter in "ABC":
        assert places(text, letter) == places(usual, letter)
    assert len(places(text, "c")) < len(places(usual, "c"))


def test_one_diverged_seed_is_a_diverged_cell() -> None:
    trials = sweep({64: -6.0}, range(-7, -4))
    assert len(places(draw_bowls("lr", trials, {}, 80, False), "a")) == 3 + 1
    trials.loc[0, "eval_loss"] = math.nan
    assert len(places(draw_bowls("lr", trials, {}, 80, False), "a")) == 2 + 1


def test_a_width_of_which_all_diverged_is_only_named() -> None:
    trials = sweep()
    trials.loc[trials["width"] == 32, "eval_loss"] = math.nan
    text = draw_bowls("lr", trials, optima() | {32: MISSED}, 80, False)
    assert "b 32 diverged" in text
    assert len(places(text, "B")) == 0
    assert len(places(text, "A")) == len(places(text, "C")) == 1
    assert len(places(draw_optima("lr", optima() | {32: MISSED}, None, None, 80, False), "●")) == 2


def test_a_single_learning_rate() -> None:
    text = draw_bowls("lr", sweep(grid=range(-6, -5)), dict.fromkeys(BEST, MISSED), 80, False)
    below = [max(places(text, letter)) for letter in "abc"]
    assert below == sorted(below)
    assert {column for _, column in below} == {column_of(text, "2^-6")}
    assert not BRAILLE.search(text)


def test_without_anything_to_draw_there_is_a_sentence() -> None:
    missed = dict.fromkeys(BEST, MISSED)
    diverged = sweep().assign(eval_loss=math.nan)
    assert draw_bowls("lr", diverged, missed, 80, False) == "no picture: every trial diverged"
    assert draw_optima("lr", missed, None, None, 80, False) == "no picture: no optimum of lr"


def test_the_library_is_loaded_when_a_picture_is_drawn() -> None:
    program = "import sys, mutransfer_cli.cli.picture; print('plotext' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
    assert out == "False\n"
