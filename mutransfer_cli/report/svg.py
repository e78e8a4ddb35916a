"""Pictures as inline SVG: drawn by matplotlib, coloured by the page's style sheet."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from mutransfer_cli.errors import InputError
from mutransfer_cli.report.html import escaped, prose

if TYPE_CHECKING:
    from matplotlib.axes import Axes


UNITS = 360.0  # width of a picture; a phone shows it at about its own size
HEIGHT = 290.0
SCALE = 12  # colours of a scale in the style sheet
MOST_TICKS = 6
LEAST_GAP = 0.09  # of the axis, between the names of two widths

# colours that matplotlib takes for such and the style sheet replaces, so that both themes are read;
# none is black itself, which it leaves unsaid where it fills
INK, RULE, FAINT = "#000003", "#000001", "#000002"
NAMED = {INK: "currentColor", RULE: "var(--rule)", FAINT: "var(--faint)"}
KINDS = {"01": "s", "02": "c", "03": "h"}  # scale, hue, shade
Look = dict[str, Any]  # of a line, as matplotlib takes it
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")

STYLE: Any = {  # matplotlib types each setting by its name
    "axes.edgecolor": FAINT,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.labelsize": 12,
    "axes.unicode_minus": False,  # as in sentences and tables
    "figure.facecolor": "none",
    "font.size": 11.5,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "legend.columnspacing": 1.0,
    "legend.fontsize": 11.5,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "legend.handletextpad": 0.5,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
}


def scale(index: int, count: int) -> str:
    """The colour of one of `count` ordered things."""
    return f"#0001{round(index * (SCALE - 1) / max(count - 1, 1)):02x}"


def hue(index: int) -> str:
    """The colour of one of a few unordered things."""
    return f"#0002{index % 6:02x}"


def shade(level: int) -> str:
    """From the best (0) to the worst (6) of a surface."""
    return f"#0003{level:02x}"


def marker(index: int) -> str:
    return MARKERS[index % len(MARKERS)]


def picture(
    key: str,
    title: str,
    caption: str,
    words: str,
    draw: Callable[[Axes], None],
    height: float = HEIGHT,
) -> str:
    """A `<figure>` whose `<svg>` takes the width it is given.

    Args:
        key: what its ids begin with; another for every picture of a page.
        title: what is drawn, above it.
        caption: how it is read, below it.
        words: what it shows, for who does not see it.

    Raises:
        InputError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise InputError(
            "report: drawing needs matplotlib; run `pip install 'mutransfer-cli[plot]'`"
        ) from error
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**STYLE, "svg.hashsalt": key}):
        figure = Figure(figsize=(UNITS / 72, height / 72), layout="constrained")
        axes = figure.subplots()
        axes.set_axisbelow(True)
        draw(axes)
        out = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(out, format="svg", metadata=nothing)
    svg = _inline(out.getvalue(), key, title, words, height)
    # the svg itself has the title for a reader of the screen
    return (
        f'<figure><p class="title" aria-hidden="true">{escaped(title)}</p>{svg}'
        f"<figcaption>{prose(caption)}</figcaption></figure>"
    )


def _inline(text: str, key: str, title: str, words: str, height: float) -> str:
    """What is inside matplotlib's `<svg>`, with ids, colours and fonts of the page."""
    inside = text[text.index("</defs>") + len("</defs>") : text.rindex("</svg>")]
    inside = re.sub(r"<!--.*?-->", "", inside, flags=re.DOTALL)
    inside = inside.replace("xlink:href", "href")
    inside = re.sub(r'\bid="([^"]*)"', rf'id="{key}-\1"', inside)
    inside = re.sub(r'(href="|url\()#', rf"\1#{key}-", inside)
    inside = re.sub(r"; font-family: [^\"]*?sans-serif", "", inside)
    inside = re.sub(r'\b(?:d|x|y|transform|points)="[^"]*"', _short, inside)
    inside = re.sub(r"(?<=[:\s])#00[0-9a-f]{4}\b(?=[;\"])", _colour, inside)
    inside = re.sub(r">\s+<", "><", inside)
    return (
        f'<svg role="img" aria-labelledby="{key}-title {key}-words" '
        f'viewBox="0 0 {UNITS:g} {height:g}">'
        f'<title id="{key}-title">{escaped(title)}</title>'
        f'<desc id="{key}-words">{escaped(words)}</desc>{inside.strip()}</svg>'
    )


def _short(attribute: re.Match[str]) -> str:
    """A place to a hundredth of a unit."""
    numbers = re.sub(r"(\.\d\d)\d+", r"\1", attribute[0])
    return re.sub(r"\s*\n\s*", " ", numbers)


def _colour(found: re.Match[str]) -> str:
    """Of `#00KKII` the variable of kind K and index I, both hexadecimal."""
    if found[0] in NAMED:
        return NAMED[found[0]]
    return f"var(--{KINDS[found[0][3:5]]}{int(found[0][5:], 16)})"


def log2_axis(axes: Axes, which: Literal["x", "y"], low: float, high: float) -> None:
    """Ticks of a log2 axis at whole octaves, or at halves and less where they are few."""
    step = next(s for s in (0.1, 0.25, 0.5, 1, 2, 5, 10, 1e3) if (high - low) / s <= MOST_TICKS)
    ticks = [step * k for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
    labels = [f"2^{tick:g}" for tick in ticks]
    if which == "x":
        axes.set_xlim(low, high)
        axes.set_xticks(ticks, labels)
    else:
        axes.set_ylim(low, high)
        axes.set_yticks(ticks, labels)


def width_axis(axes: Axes, widths: Sequence[int]) -> None:
    """x is log2 width; widths are named where there is room."""
    ends = margin([math.log2(width) for width in widths], 1.0)
    named: list[int] = []
    for width in sorted(widths, reverse=True):
        if not named or math.log2(named[-1] / width) >= LEAST_GAP * (ends[1] - ends[0]):
            named.append(width)
    axes.set_xlim(*ends)
    axes.set_xticks([math.log2(width) for width in named], [str(width) for width in named])
    axes.set_xlabel("width")


def margin(values: Sequence[float], least: float) -> tuple[float, float]:
    """The range of values, at least so wide, with a margin."""
    middle, half = (min(values) + max(values)) / 2, (max(values) - min(values)) / 2
    half = 1.1 * max(half, least / 2)
    return middle - half, middle + half


def legend_below(axes: Axes, of: str = "", most: int = 12) -> None:
    """Row by row, as many columns as there is room for; of more entries than `most`, some spread
    over all.

    Args:
        of: what the entries are values of, said before them.
    """
    from matplotlib.lines import Line2D

    handles, labels = axes.get_legend_handles_labels()
    if len(labels) > most:
        kept = sorted({round(i * (len(labels) - 1) / (most - 1)) for i in range(most)})
        handles, labels = [handles[i] for i in kept], [labels[i] for i in kept]
    if not labels:
        return
    if of:
        handles, labels = [Line2D([], [], linestyle="none"), *handles], [f"{of}:", *labels]
    wide = [36 + 7.1 * len(label) for label in labels]
    columns = len(labels)
    if sum(wide) > UNITS:  # of several rows each column is as wide as the widest entry
        columns = math.ceil(columns / math.ceil(columns / max(1, UNITS // max(wide))))
    # matplotlib fills columns
    order = [i for first in range(columns) for i in range(first, len(labels), columns)]
    figure = axes.get_figure()
    assert figure is not None, "a picture's axes are in its figure"
    figure.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        loc="outside lower center",
        ncols=columns,
    )


def edges(centres: Sequence[float]) -> list[float]:
    """Of cells about sorted centres: half-way between them, and as far beyond the ends."""
    if len(centres) == 1:
        return [centres[0] - 0.5, centres[0] + 0.5]
    between = [(a + b) / 2 for a, b in pairwise(centres)]
    return [2 * centres[0] - between[0], *between, 2 * centres[-1] - between[-1]]
