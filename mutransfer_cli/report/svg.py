"""Figures, which are drawn for the page, for a paper, or onto the axes of a notebook.

A figure is as large as a paper's column; on the page the style sheet scales it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from mutransfer_cli.errors import InputError
from mutransfer_cli.report.palette import PAGE, PAPER, PLACEHOLDERS, Palette

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

WIDTH, HEIGHT = 237.6, 190.0  # points: 3.3 inches are a paper's column
STYLE = Path(__file__).parent / "templates" / "figure.mplstyle"
HOVER = "shown on hover: "  # begins the ids of such artists
REACH = 4.5  # points around a mark, and across a line, within which the pointer finds it
NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # names in files may have them
OPENING = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'width="{0:g}pt" height="{1:g}pt" viewBox="0 0 {0:g} {1:g}" stroke-linejoin="round">'
)

Look = dict[str, Any]  # keyword arguments of a line, as matplotlib takes them
Draw = Callable[["Axes", Palette], object]


@dataclass(frozen=True)
class Figure:
    """A picture that can be drawn anywhere; `words` describe it to readers who cannot see it.

    `key` begins its ids and is unique on a page. Every way of drawing it raises InputError if
    matplotlib is not installed.
    """

    key: str
    title: str
    caption: str
    draw: Draw
    """Draws onto matplotlib's axes with the colours of a palette."""
    words: str
    width: float = WIDTH
    """Points, as is the height."""
    height: float = HEIGHT

    @property
    def view_box(self) -> str:
        return f"0 0 {self.width:g} {self.height:g}"

    def inline(self) -> str:
        """The inside of an `<svg>` on the page, in variables of its style sheet; it is escaped."""
        variables = {PLACEHOLDERS[name]: f"var(--{name})" for name in PLACEHOLDERS}
        return _elements(self._svg(PAGE, "none"), variables)

    def stand_alone(self) -> str:
        """A whole `<svg>` in the colours of a paper, whose letters are paths."""
        # older programs know no other reference than that of XLink
        inside = _elements(self._svg(PAPER, "path"), {}, href="xlink:href")
        names = f"<title>{escape(self.title)}</title><desc>{escape(self.words)}</desc>"
        return OPENING.format(self.width, self.height) + names + inside + "</svg>"

    def save(self, path: Path) -> None:
        """Write a file that stands alone: an SVG whose letters are paths, or a PDF with its fonts.

        Args:
            path: ends in .svg or .pdf.
        """
        if path.suffix == ".svg":
            path.write_text(self.stand_alone() + "\n", encoding="utf-8")
            return
        with self._settings(PAPER):
            self.canvas().savefig(path, metadata={"Title": self.title, "CreationDate": None})

    def on(self, axes: Axes) -> None:
        """Draw onto axes that exist, such as those of a notebook, with their fonts."""
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=PAPER.colours["rule"])
        self.draw(axes, PAPER)

    def canvas(self, palette: Palette = PAPER) -> Canvas:
        """A matplotlib figure with this drawing, in the look of a paper."""
        with self._settings(palette):
            from matplotlib.figure import Figure as Canvas

            canvas = Canvas(figsize=(self.width / 72, self.height / 72))
            self.draw(canvas.subplots(), palette)
        return canvas

    def _settings(self, palette: Palette, **more: str) -> AbstractContextManager[None]:
        """Matplotlib's settings of figure.mplstyle, with the palette's colours."""
        try:
            import matplotlib
        except ImportError as error:
            raise InputError(
                "report: drawing needs matplotlib; run `pip install matplotlib`"
            ) from error
        style = matplotlib.rc_params_from_file(STYLE, use_default_template=False)
        names = {colour: name for name, colour in PLACEHOLDERS.items()}
        coloured: Look = {
            key: palette.colours[names[colour]]
            for key, value in style.items()
            for colour in [f"#{value}".replace("##", "#")]  # matplotlib keeps both spellings
            if colour in names
        }
        # the salt makes ids within drawings reproducible, and distinct between figures
        settings: Any = {**style, **coloured, "svg.hashsalt": self.key, **more}
        return matplotlib.rc_context(settings)

    def _svg(self, palette: Palette, letters: str) -> str:
        """The SVG that matplotlib writes, with letters as `path` or as text (`none`)."""
        out = io.StringIO()
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        with self._settings(palette, **{"svg.fonttype": letters}):
            self.canvas(palette).savefig(out, format="svg", metadata=no_metadata)
        return out.getvalue()


def figure(
    key: str, title: str, caption: str, draw: Draw, words: str = "", height: float = HEIGHT
) -> Figure:
    """Describe a figure; `words`, its text alternative, is the caption unless given."""
    return Figure(key, title, caption, draw, words or caption, height=height)


def hover(artist: Artist, text: str) -> None:
    """Show a text where the pointer is on the artist; there is no script."""
    artist.set_gid(HOVER + text)


def _elements(svg: str, colours: Mapping[str, str], href: str = "href") -> str:
    """The elements inside matplotlib's `<svg>` with other colours and the texts of `hover`.

    Args:
        href: name of references.
    """
    root = ElementTree.fromstring(NOT_XML.sub("\ufffd", svg))  # noqa: S314 - matplotlib wrote it
    root.remove(root[0])  # its style sheet
    for element in root.iter():
        name = element.attrib.get("id", "")
        element.tag = element.tag.rpartition("}")[2]  # without its XML namespace
        element.attrib = {
            {"href": href}.get(short, short): _styled(value, colours)
            if key == "style"
            else _short(value)
            for key, value in element.attrib.items()
            for short in [key.rpartition("}")[2]]
            if (element.tag, key) != ("g", "id")  # names of groups, the same in every figure
        }
        element.tail = None
        if element.tag != "text":
            element.text = None
        if name.startswith(HOVER):
            element.set("class", "shown")
            element.set("title", name.removeprefix(HOVER))
    for group in root.findall(".//g[@class='shown']"):
        _show(group)
    return "".join(ElementTree.tostring(child, encoding="unicode") for child in root)


def _show(group: ElementTree.Element) -> None:
    """Give a group its text on hover, and its marks and lines a wider reach for the pointer."""
    unseen = {"fill": "none", "pointer-events": "stroke", "stroke": "none"}
    for part in [*group.iter("g")]:
        for mark in part.findall("use"):
            at = {"cx": mark.get("x", "0"), "cy": mark.get("y", "0"), "r": f"{REACH:g}"}
            ElementTree.SubElement(part, "circle", at | unseen | {"pointer-events": "all"})
        for line in part.findall("path"):
            wide = {"d": line.get("d", ""), "stroke-width": f"{2 * REACH:g}"}
            ElementTree.SubElement(part, "path", wide | unseen)
    title = ElementTree.Element("title")
    title.text = group.attrib.pop("title")
    del group.attrib["class"]
    group.insert(0, title)


def _styled(style: str, colours: Mapping[str, str]) -> str:
    """A style attribute with other colours and without a font family."""
    pairs = [pair.split(": ") for pair in style.split("; ")]
    return "; ".join(f"{k}: {colours.get(v, v)}" for k, v in pairs if k != "font-family")


def _short(value: str) -> str:
    """An attribute on one line, its numbers cut to hundredths of a unit unless they scale."""
    if "scale(" in value:
        return value
    return " ".join(re.sub(r"(\.\d\d)\d+", r"\1", value).split())
