"""Figures on the page, in files that stand alone, and on given axes."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure as Canvas

from mutransfer_cli.report import svg
from mutransfer_cli.report.palette import LIGHT, PAPER, Palette


def drawn(draw: svg.Draw, key: str = "a") -> str:
    return svg.figure(key, "title", "caption", draw).inline()


def texts(drawing: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", drawing)


def draw_all(axes: Axes, colours: Palette) -> None:
    for i, colour in enumerate(colours.colours.values()):
        axes.plot([0, 1], [i, i], "o-", color=colour, clip_on=i > 3)


def test_placeholders_become_variables_of_the_style_sheet() -> None:
    drawing = drawn(draw_all)
    assert {f"var(--{name})" for name in LIGHT} == set(re.findall(r": (var\([^)]*\))", drawing))
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
    drawing = drawn(lambda axes, _: axes.set_title(label))
    assert "&lt;/text&gt;&lt;script&gt;&amp;\ufffd#000003 xlink:href" in texts(drawing)


def test_numbers_are_cut_to_hundredths() -> None:
    drawing = drawn(lambda axes, _: axes.plot([0, 1 / 3, 1], [0, 1 / 7, 1]))
    assert re.search(r'd="M [^"]*\.\d\d[ "]', drawing)
    assert not re.search(r'd="[^"]*\.\d\d\d', drawing)


def test_words_are_the_caption_unless_given() -> None:
    assert svg.figure("a", "title", "caption", draw_all).words == "caption"
    assert svg.figure("a", "title", "caption", draw_all, "words").words == "words"


def test_a_file_stands_alone_in_real_colours(tmp_path: Path) -> None:
    path = tmp_path / "figure.svg"
    svg.figure("a", "A <title>", "caption", draw_all).save(path)
    text = path.read_text()
    root = ElementTree.fromstring(text)
    assert (root.get("width"), root.get("height")) == ("237.6pt", "190pt")
    assert root[0].text == "A <title>"
    assert set(LIGHT.values()) <= set(re.findall("#[0-9a-f]{6}", text))
    assert "var(" not in text
    assert "<text" not in text, "letters are paths, so that no font is needed"
    used = set(re.findall(r'href="#([^"]*)"', text))
    assert used
    assert used <= set(re.findall(r'\bid="([^"]*)"', text))


def test_a_pdf_holds_its_fonts_and_is_as_wide_as_a_column(tmp_path: Path) -> None:
    path = tmp_path / "figure.pdf"
    one = svg.figure("a", "title", "caption", lambda axes, _: axes.set_title("2⁻⁵·⁷⁶"))
    one.save(path)
    first = path.read_bytes()
    assert b"/FontFile2" in first
    assert b"/MediaBox [ 0 0 237.6 190 ]" in first
    one.save(path)
    assert path.read_bytes() == first


def test_a_figure_is_drawn_onto_given_axes() -> None:
    axes = Canvas().subplots()
    svg.figure("a", "title", "caption", draw_all).on(axes)
    assert [to_hex(line.get_color()) for line in axes.lines] == [*LIGHT.values()]
    assert axes.yaxis.label.get_fontsize() != pytest.approx(8), "its own settings"


def test_a_canvas_has_the_look_of_a_paper() -> None:
    canvas = svg.figure("a", "title", "caption", draw_all).canvas()
    (axes,) = canvas.axes
    assert canvas.get_size_inches() == pytest.approx((3.3, 190 / 72))
    assert axes.yaxis.label.get_fontsize() == pytest.approx(8)
    assert to_hex(axes.xaxis.label.get_color()) == PAPER.ink


def test_values_appear_on_hover(tmp_path: Path) -> None:
    def draw(axes: Axes, _: Palette) -> None:
        (point,) = axes.plot([0], [0], "o")
        svg.hover(point, "a < b")
        (line,) = axes.plot([0, 1], [0, 1])
        svg.hover(line, "a line")

    figure = svg.figure("a", "title", "caption", draw)
    figure.save(tmp_path / "figure.svg")
    for drawing in (figure.inline(), (tmp_path / "figure.svg").read_text()):
        assert re.search(r"<g><title>a &lt; b</title>.*?<use .*?<circle ", drawing)
        assert re.search(r"<g><title>a line</title>.*?<path .*?<path [^>]*pointer-events", drawing)
        assert svg.HOVER not in drawing


def test_letters_that_are_paths_keep_their_size() -> None:
    """Matplotlib scales letters by 1/64 and a size; hundredths would shrink them by a third."""
    one = svg.figure("a", "title", "caption", lambda axes, colours: axes.set_xlabel("letters"))
    theirs, ours = (
        set(re.findall(r"scale\([^)]*\)", drawing))
        for drawing in (one._svg(PAPER, "path"), one.stand_alone())
    )
    assert "scale(0.015625)" in theirs
    assert ours == theirs
