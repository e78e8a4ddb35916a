"""Axes, legends and intervals."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from matplotlib.figure import Figure as Canvas

from mutransfer_cli.check.measure import Verdict
from mutransfer_cli.report import marks, svg
from mutransfer_cli.report.palette import Palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def drawn(draw: svg.Draw) -> str:
    return svg.figure("a", "title", "caption", draw).inline()


def texts(drawing: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", drawing)


@pytest.mark.parametrize(
    ("ends", "labels"),
    [
        ((-8, -3), ["2⁻⁸", "2⁻⁷", "2⁻⁶", "2⁻⁵", "2⁻⁴", "2⁻³"]),
        ((-1, 11), ["2⁰", "2²", "2⁴", "2⁶", "2⁸", "2¹⁰"]),
        ((0, 0.1), ["2⁰", "2⁰·⁰²", "2⁰·⁰⁴", "2⁰·⁰⁶", "2⁰·⁰⁸", "2⁰·¹"]),
    ],
)
def test_octaves_are_round(ends: tuple[float, float], labels: list[str]) -> None:
    def draw(axes: Axes, _: Palette) -> None:
        axes.set(xlim=ends, yticks=[])
        marks.log2_axis(axes.xaxis)

    assert texts(drawn(draw)) == labels


def test_the_widest_widths_are_named_where_there_is_room() -> None:
    def draw(axes: Axes, _: Palette) -> None:
        marks.width_axis(axes, [16, 120, 128, 256])
        axes.set_yticks([])

    assert texts(drawn(draw)) == ["256", "128", "16", "width"]


def test_some_of_many() -> None:
    assert marks.spread_evenly(3, 5) == [0, 1, 2]
    assert marks.spread_evenly(9, 3) == [0, 4, 8]
    assert marks.spread_evenly(9, 1) == [0]


def test_margin() -> None:
    assert marks.margin([1.0, 3.0], 1.0) == pytest.approx((0.9, 3.1))
    assert marks.margin([2.0], 1.0) == pytest.approx((1.45, 2.55))


def test_a_legend_reads_row_by_row_and_is_thinned() -> None:
    axes = Canvas().subplots()
    for i in range(40):
        axes.plot([], [], label=f"entry {i}")
    marks.legend_above(axes, "some", most=4)
    legend = axes.get_legend()
    assert legend is not None
    # three columns in the order in which matplotlib fills them
    expected = ["some:", "entry 26", "entry 0", "entry 39", "entry 13"]
    assert [text.get_text() for text in legend.get_texts()] == expected


def test_many_estimates_are_several_figures_with_one_axis() -> None:
    rows = [
        marks.Estimate(f"n{i}", i / 10, i / 10 - 0.1, i / 10 + 0.1, 0, 0.25, None, f"is {i}")
        for i in range(13)
    ]
    one, two = marks.intervals("key", "Title", "caption", "slope", rows)
    assert (one.title, two.title) == ("Title, 1 of 2", "Title, 2 of 2")
    assert one.words == "is 0; is 1; is 2; is 3; is 4; is 5; is 6"
    assert {"n0", "0.0", "1.0"} <= set(texts(one.inline()))
    assert {"n12", "0.0", "1.0"} <= set(texts(two.inline()))
    assert marks.intervals("key", "Title", "caption", "slope", []) == []


def test_failed_estimates_are_marked() -> None:
    def drawing(verdict: Verdict) -> str:
        row = marks.Estimate("n", 1.0, 0.9, 1.1, 0, 0.25, verdict, "words")
        return marks.intervals("key", "Title", "caption", "slope", [row])[0].inline()

    marked = "var(--c1)"
    assert [marked in drawing(v) for v in ("pass", "fail", "inconclusive")] == [False, True, True]
