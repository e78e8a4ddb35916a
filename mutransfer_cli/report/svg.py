"""Figures as inline SVG, drawn by matplotlib and coloured by the page's style sheet.

Matplotlib takes only real colours. It draws with placeholders, which `_elements` replaces by the
variables of page.css, so that one drawing serves the light theme, the dark theme and print.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from mutransfer_cli.check.measure import Verdict
from mutransfer_cli.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

UNITS = 360.0  # width of a figure; a phone shows it at about its own size
HEIGHT = 290.0
MOST_TICKS, MOST_ESTIMATES = 6, 12  # of an axis, of a figure
LEAST_GAP = 0.09  # between the names of two widths, as a share of the axis

SCALE, HUES, SHADES = 12, 6, 7  # how many of each kind page.css defines
# black itself is no placeholder: matplotlib leaves it out where it fills
INK, RULE, FAINT = "#000003", "#000001", "#000002"
COLOURS = {
    INK: "currentColor",
    RULE: "var(--rule)",
    FAINT: "var(--faint)",
    **{f"#0001{i:02x}": f"var(--s{i})" for i in range(SCALE)},
    **{f"#0002{i:02x}": f"var(--c{i})" for i in range(HUES)},
    **{f"#0003{i:02x}": f"var(--h{i})" for i in range(SHADES)},
}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")
NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")  # names in files may have them
Look = dict[str, Any]  # keyword arguments of a line, as matplotlib takes them


@dataclass(frozen=True)
class Figure:
    """A picture as inline SVG; `words` describe it to readers who cannot see it.

    `key` begins its ids and is unique on the page. The text in `drawing` is escaped.
    """

    key: str
    title: str
    caption: str
    words: str
    view_box: str
    drawing: str


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; `tolerance` is the one around `expected`, if there is one."""

    name: str
    value: float
    low: float
    high: float
    expected: float | None
    tolerance: float
    verdict: Verdict | None
    words: str


def scale(index: int, count: int) -> str:
    """The colour of one of `count` ordered things."""
    return f"#0001{round(index * (SCALE - 1) / max(count - 1, 1)):02x}"


def hue(index: int) -> str:
    """The colour of one of a few unordered things."""
    return f"#0002{index % HUES:02x}"


def shade(level: int) -> str:
    """The colour of a level of a surface, from the best (0) to the worst (6)."""
    return f"#0003{level:02x}"


def marker(index: int) -> str:
    return MARKERS[index % len(MARKERS)]


def figure(
    key: str,
    title: str,
    caption: str,
    draw: Callable[[Axes], None],
    words: str = "",
    height: float = HEIGHT,
) -> Figure:
    """Draw a figure; `words`, its text alternative, is the caption unless given.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise InputError(
            "report: drawing needs matplotlib; run `pip install 'mutransfer-cli[plot]'`"
        ) from error
    from matplotlib.figure import Figure as Canvas

    settings = Path(__file__).parent / "templates" / "figure.mplstyle"
    # the salt makes ids within drawings reproducible, and distinct between figures
    with matplotlib.rc_context({"svg.hashsalt": key}, settings):
        canvas = Canvas(figsize=(UNITS / 72, height / 72))
        draw(canvas.subplots())
        out = io.StringIO()
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        canvas.savefig(out, format="svg", metadata=no_metadata)
    view_box, drawing = f"0 0 {UNITS:g} {height:g}", _elements(out.getvalue())
    return Figure(key, title, caption, words or caption, view_box, drawing)


def _elements(svg: str) -> str:
    """The elements inside matplotlib's `<svg>`, with colours and fonts of the page."""
    root = ElementTree.fromstring(NOT_XML.sub("\ufffd", svg))  # noqa: S314 - matplotlib wrote it
    root.remove(root[0])  # its style sheet
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]  # without its XML namespace
        element.attrib = {
            name.rpartition("}")[2]: _styled(value) if name == "style" else _short(value)
            for name, value in element.attrib.items()
            if (element.tag, name) != ("g", "id")  # names of groups, the same in every figure
        }
        element.tail = None
        if element.tag != "text":
            element.text = None
    return "".join(ElementTree.tostring(child, encoding="unicode") for child in root)


def _styled(style: str) -> str:
    """A style attribute with the variables of page.css as colours and without a font family."""
    pairs = [pair.split(": ") for pair in style.split("; ")]
    return "; ".join(f"{k}: {COLOURS.get(v, v)}" for k, v in pairs if k != "font-family")


def _short(value: str) -> str:
    """An attribute on one line, its numbers cut to hundredths of a unit."""
    return " ".join(re.sub(r"(\.\d\d)\d+", r"\1", value).split())


def log2_axis(axis: Axis) -> None:
    """Label an axis of log2 values as powers of two, at few and round exponents."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(MOST_TICKS, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(lambda exponent, _: f"2^{exponent:g}")


def width_axis(axes: Axes, widths: Sequence[int]) -> None:
    """Make x the log2 of width and name widths where there is room, the widest first."""
    low, high = margin([math.log2(width) for width in widths], 1.0)
    named: list[int] = []
    for width in sorted(widths, reverse=True):
        if not named or math.log2(named[-1] / width) >= LEAST_GAP * (high - low):
            named.append(width)
    axes.set_xlim(low, high)
    axes.set_xticks([math.log2(width) for width in named], [str(width) for width in named])
    axes.set_xlabel("width")


def margin(values: Sequence[float], least: float) -> tuple[float, float]:
    """The range of the values, widened to at least `least`, with a margin of a twentieth."""
    middle, half = (min(values) + max(values)) / 2, (max(values) - min(values)) / 2
    half = 1.1 * max(half, least / 2)
    return middle - half, middle + half


def legend_below(axes: Axes, title: str = "", most: int = 12) -> None:
    """Put the legend below, row by row, in as many columns as fit.

    Args:
        title: name of the quantity whose values the entries are; written before them.
        most: entries shown; if there are more, evenly spread ones are kept.
    """
    from matplotlib.lines import Line2D

    entries = list(zip(*axes.get_legend_handles_labels(), strict=True))
    if not entries:
        return
    if len(entries) > most:
        kept = sorted({round(i * (len(entries) - 1) / (most - 1)) for i in range(most)})
        entries = [entries[i] for i in kept]
    if title:
        entries.insert(0, (Line2D([], [], linestyle="none"), f"{title}:"))
    wide = [36 + 7.1 * len(label) for _, label in entries]
    columns = len(entries)
    if sum(wide) > UNITS:  # in several rows each column is as wide as the widest entry
        columns = math.ceil(columns / math.ceil(columns / max(1, UNITS // max(wide))))
    # matplotlib fills column by column
    order = [entry for first in range(columns) for entry in entries[first::columns]]
    handles, labels = zip(*order, strict=True)
    axes.figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def intervals(
    key: str, title: str, caption: str, label: str, estimates: Sequence[Estimate]
) -> list[Figure]:
    """Draw estimates below each other, each under its name, at most 12 to a figure.

    All figures have the same x axis, named `label`.
    """
    if not estimates:
        return []
    ends = [end for one in estimates for end in (one.low, one.high)]
    for one in estimates:
        if one.expected is not None:
            ends += [one.expected - one.tolerance, one.expected + one.tolerance]
    each = math.ceil(len(estimates) / math.ceil(len(estimates) / MOST_ESTIMATES))
    parts = [estimates[i : i + each] for i in range(0, len(estimates), each)]

    def draw(axes: Axes, part: Sequence[Estimate]) -> None:
        for row, one in enumerate(part):
            _estimate(axes, row, one)
        axes.set(xlim=margin(ends, 0.1), ylim=(len(part) - 0.45, -0.75), xlabel=label)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.locator_params(axis="x", nbins=6)
        axes.grid(False, axis="y")

    figures = []
    for i, part in enumerate(parts):
        whole = f"{title}, {i + 1} of {len(parts)}" if len(parts) > 1 else title
        words, height = "; ".join(one.words for one in part), 66.0 + 38.0 * len(part)
        drawing = partial(draw, part=part)
        figures.append(figure(f"{key}-{i}", whole, caption, drawing, words, height))
    return figures


def _estimate(axes: Axes, row: int, one: Estimate) -> None:
    if one.expected is not None:
        low = one.expected - one.tolerance
        axes.barh(row, 2 * one.tolerance, 0.3, low, color=hue(0), alpha=0.22)
        axes.plot([one.expected] * 2, [row - 0.15, row + 0.15], color=FAINT)
    ends = [[one.value - one.low], [one.high - one.value]]
    colour = hue(1) if one.verdict in ("fail", "inconclusive") else INK
    look: Look = {"color": colour, "markersize": 6.5, "elinewidth": 2.2, "capsize": 4.5}
    axes.errorbar([one.value], [row], xerr=ends, fmt="X" if one.verdict == "fail" else "o", **look)
    look = {"xytext": (0, 9), "textcoords": "offset points", "fontsize": 11}
    axes.annotate(one.name, (0, row), xycoords=("axes fraction", "data"), **look)
