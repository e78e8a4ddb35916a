"""Figures: colours and ids of the page, escaped text, axes, legends and intervals."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from matplotlib.figure import Figure as Canvas

from mutransfer_cli.check.measure import Verdict
from mutransfer_cli.report import svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def drawn(draw: Callable[[Axes], Any], key: str = "a") -> str:
    return svg.figure(key, "title", "caption", draw).drawing


def texts(drawing: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", drawing)


def draw_all(axes: Axes) -> None:
    for i, colour in enumerate(svg.COLOURS):
        axes.plot([0, 1], [i, i], "o-", color=colour, clip_on=i > 3)


def test_placeholders_become_variables_of_the_style_sheet() -> None:
    drawing = drawn(draw_all)
    assert set(svg.COLOURS.values()) == set(re.findall(r": (currentColor|var\([^)]*\))", drawing))
    assert "#0000" not in drawing.replace("#000000", "")
    assert "font-family" not in drawing


def test_ids_of_figures_are_distinct_and_found() -> None:
    ids: list[str] = []
    for key in ("a", "b"):
        drawing = drawn(draw_all, key)
        own = re.findall(r'\bid="([^"]*)"', drawing)
        used = re.findall(r'(?:href="|url\()#([^")]*)', drawing)
        assert used
        assert set(used) <= set(own)
        ids += own
    assert len(set(ids)) == len(ids)


def test_a_figure_is_the_same_every_time() -> None:
    assert drawn(draw_all) == drawn(draw_all)


@pytest.mark.filterwarnings("ignore:Glyph 1")
def test_text_is_escaped_and_may_hold_anything() -> None:
    label = "</text><script>&\x01#000003 xlink:href"
    drawing = drawn(lambda axes: axes.set_title(label))
    assert "&lt;/text&gt;&lt;script&gt;&amp;\ufffd#000003 xlink:href" in texts(drawing)


def test_numbers_are_cut_to_hundredths() -> None:
    drawing = drawn(lambda axes: axes.plot([0, 1 / 3, 1], [0, 1 / 7, 1]))
    assert re.search(r'd="M [^"]*\.\d\d[ "]', drawing)
    assert not re.search(r'd="[^"]*\.\d\d\d', drawing)


def test_words_are_the_caption_unless_given() -> None:
    assert svg.figure("a", "title", "caption", draw_all).words == "caption"
    assert svg.figure("a", "title", "caption", draw_all, "words").words == "words"


@pytest.mark.parametrize(
    ("ends", "labels"),
    [
        ((-8, -3), ["2^-8", "2^-7", "2^-6", "2^-5", "2^-4", "2^-3"]),
        ((-1, 11), ["2^0", "2^2", "2^4", "2^6", "2^8", "2^10"]),
        ((0, 0.1), ["2^0", "2^0.02", "2^0.04", "2^0.06", "2^0.08", "2^0.1"]),
    ],
)
def test_octaves_are_round(ends: tuple[float, float], labels: list[str]) -> None:
    def draw(axes: Axes) -> None:
        axes.set(xlim=ends, yticks=[])
        svg.log2_axis(axes.xaxis)

    assert texts(drawn(draw)) == labels


def test_the_widest_widths_are_named_where_there_is_room() -> None:
    def draw(axes: Axes) -> None:
        svg.width_axis(axes, [16, 120, 128, 256])
        axes.set_yticks([])

    assert texts(drawn(draw)) == ["256", "128", "16", "width"]


def test_margin() -> None:
    assert svg.margin([1.0, 3.0], 1.0) == pytest.approx((0.9, 3.1))
    assert svg.margin([2.0], 1.0) == pytest.approx((1.45, 2.55))


def test_a_legend_reads_row_by_row_and_is_thinned() -> None:
    axes = Canvas().subplots()
    for i in range(40):
        axes.plot([], [], label=f"entry {i}")
    svg.legend_below(axes, "some", most=4)
    (legend,) = axes.figure.legends
    # three columns in the order in which matplotlib fills them
    expected = ["some:", "entry 26", "entry 0", "entry 39", "entry 13"]
    assert [text.get_text() for text in legend.get_texts()] == expected


def test_many_estimates_are_several_figures_with_one_axis() -> None:
    rows = [
        svg.Estimate(f"n{i}", i / 10, i / 10 - 0.1, i / 10 + 0.1, 0, 0.25, None, f"is {i}")
        for i in range(13)
    ]
    one, two = svg.intervals("key", "Title", "caption", "slope", rows)
    assert (one.title, two.title) == ("Title, 1 of 2", "Title, 2 of 2")
    assert one.words == "is 0; is 1; is 2; is 3; is 4; is 5; is 6"
    assert {"n0", "0.0", "1.0"} <= set(texts(one.drawing))
    assert {"n12", "0.0", "1.0"} <= set(texts(two.drawing))
    assert svg.intervals("key", "Title", "caption", "slope", []) == []


def test_failed_estimates_are_marked() -> None:
    def drawing(verdict: Verdict) -> str:
        row = svg.Estimate("n", 1.0, 0.9, 1.1, 0, 0.25, verdict, "words")
        return svg.intervals("key", "Title", "caption", "slope", [row])[0].drawing

    marked = svg.COLOURS[svg.hue(1)]
    assert [marked in drawing(v) for v in ("pass", "fail", "inconclusive")] == [False, True, True]
