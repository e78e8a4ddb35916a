"""Parts that figures share: axes of powers of two, names at the ends of lines, and intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from mutransfer_cli.check.measure import Verdict
from mutransfer_cli.report.palette import Palette
from mutransfer_cli.report.svg import WIDTH, Figure, Look, figure, hover
from mutransfer_cli.words import raised, rate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

MOST_TICKS, MOST_ESTIMATES = 6, 12  # of an axis, of a figure
MOST_OCTAVES = 24  # from 1, beyond which decimals have too many digits
MOST_LETTERS = 26  # of a name within a figure
LEAST_GAP = 0.09  # between the names of two widths, as a share of the axis


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


View = tuple[tuple[float, float], tuple[float, float]]  # limits of x and of y


def joined(views: Sequence[View]) -> View:
    """The least view that contains all."""
    across, up = zip(*views, strict=True)
    return _hull(across), _hull(up)


def _hull(ranges: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def shortened(name: str) -> str:
    """A name as a figure has room for it, its middle left out."""
    kept = MOST_LETTERS // 2
    return name if len(name) <= MOST_LETTERS else f"{name[:kept]}…{name[1 - kept :]}"


def spread_evenly(count: int, most: int) -> list[int]:
    """Indices of at most `most` of `count` things, evenly spread, with the first and the last."""
    if count <= most:
        return [*range(count)]
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)}) if most > 1 else [0]


def log2_axis(axis: Axis, decimals: bool = False) -> None:
    """Label an axis of log2 values as powers of two, at few and round exponents.

    Args:
        decimals: write the values themselves below.
    """
    from matplotlib.ticker import MaxNLocator

    def label(exponent: float, _: object) -> str:
        shown = decimals and abs(exponent) < MOST_OCTAVES
        return raised(exponent) + (f"\n{rate(2**exponent)}" if shown else "")

    axis.set_major_locator(MaxNLocator(MOST_TICKS - decimals, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(label)


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


def legend_above(axes: Axes, title: str = "", most: int = 12) -> None:
    """Put the legend above, row by row, in as many columns as fit.

    Args:
        title: name of the quantity whose values the entries are; written before them.
        most: entries shown; if there are more, evenly spread ones are kept.
    """
    from matplotlib.lines import Line2D

    handles, names = axes.get_legend_handles_labels()
    entries = [*zip(handles, map(shortened, names), strict=True)]
    if not entries:
        return
    entries = [entries[i] for i in spread_evenly(len(entries), most)]
    if title:
        entries.insert(0, (Line2D([], [], linestyle="none"), f"{title}:"))
    wide = [24 + 4.7 * len(label) for _, label in entries]
    columns = len(entries)
    if sum(wide) > WIDTH:  # in several rows each column is as wide as the widest entry
        columns = math.ceil(columns / math.ceil(columns / max(1, WIDTH // max(wide))))
    # matplotlib fills column by column
    order = [entry for first in range(columns) for entry in entries[first::columns]]
    handles, names = [one for one, _ in order], [name for _, name in order]
    above: Look = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.3}
    axes.legend(handles, names, ncols=columns, frameon=False, **above)


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

    def draw(axes: Axes, colours: Palette, part: Sequence[Estimate]) -> None:
        for row, one in enumerate(part):
            _estimate(axes, colours, row, one)
        axes.set(xlim=margin(ends, 0.1), ylim=(len(part) - 0.45, -0.75), xlabel=label)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.locator_params(axis="x", nbins=6)
        axes.grid(False, axis="y")

    figures = []
    for i, part in enumerate(parts):
        whole = f"{title}, {i + 1} of {len(parts)}" if len(parts) > 1 else title
        words, height = "; ".join(one.words for one in part), 44.0 + 25.0 * len(part)
        drawing = partial(draw, part=part)
        figures.append(figure(f"{key}-{i}", whole, caption, drawing, words, height))
    return figures


def _estimate(axes: Axes, colours: Palette, row: int, one: Estimate) -> None:
    if one.expected is not None:
        low = one.expected - one.tolerance
        axes.barh(row, 2 * one.tolerance, 0.3, low, color=colours.hue(0), alpha=0.22)
        axes.plot([one.expected] * 2, [row - 0.15, row + 0.15], color=colours.faint)
    ends = [[one.value - one.low], [one.high - one.value]]
    colour = colours.hue(1) if one.verdict in ("fail", "inconclusive") else colours.ink
    look: Look = {"color": colour, "markersize": 4.5, "elinewidth": 1.5, "capsize": 3.0}
    fmt = "X" if one.verdict == "fail" else "o"
    hover(axes.errorbar([one.value], [row], xerr=ends, fmt=fmt, **look)[0], one.words)
    look = {"xytext": (0, 6), "textcoords": "offset points"}
    axes.annotate(one.name, (0, row), xycoords=("axes fraction", "data"), **look)
