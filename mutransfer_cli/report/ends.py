"""Names at the ends of lines, in place of a legend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mutransfer_cli.fit.arrays import Array
from mutransfer_cli.report.marks import shortened, spread_evenly
from mutransfer_cli.report.svg import Look

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

LINE, LETTER = 1.25, 0.62  # height of a line of text and width of a letter, in its size
LEADER = 9.0  # points from the view to its names
FINE = 100  # places of a line from one of its points to the next
BEFORE = 0.008  # between a leader and its name, as a share of the view


def name_ends(
    axes: Axes,
    lines: Sequence[Line2D],
    names: Sequence[str],
    title: str = "",
    either_side: bool = False,
) -> None:
    """Write the names of lines in a column beside what is drawn, for which the view is widened.

    Names move apart where ends are close, and short lines lead to them. There are as many as fit,
    evenly spread. The limits of the axes must be set.

    Args:
        title: name of the quantity whose values the names are; it stands above them.
        either_side: whether they may stand to the left, where that moves them less.
    """
    import matplotlib

    size = float(matplotlib.rcParams["font.size"])
    points = 72 / axes.figure.dpi
    across, up = axes.bbox.width * points, axes.bbox.height * points
    gap = LINE * size / up
    kept = spread_evenly(len(lines), int(1 / gap))
    lines, names = [lines[i] for i in kept], [shortened(names[i]) for i in kept]
    if not lines:
        return
    sides = [_ends(axes, lines, left) for left in ((False, True) if either_side else (False,))]
    places = [apart(ends[:, 1], gap) for ends in sides]
    moved = [float(np.abs(at - ends[:, 1]).sum()) for at, ends in zip(places, sides, strict=True)]
    left = moved.index(min(moved)) == 1
    ends, heights = sides[left], places[left]
    room = (max(map(len, [*names, title])) * LETTER * size + LEADER) / across
    _widen(axes, room, left)
    start = _last_drawn(axes, left)
    ends[:, 0] = ends[:, 0] * (1 - room) + (room if left else 0)  # in shares of the widened view
    side = -1 if left else 1
    start += side * LEADER / across
    look: Look = {"ha": "right" if left else "left", "transform": axes.transAxes}
    for (x, y), height, line, name in zip(ends, heights, lines, names, strict=True):
        leader: Look = {"color": line.get_color(), "linewidth": 0.6, "alpha": 0.7}
        axes.plot([x, start], [y, height], clip_on=False, transform=axes.transAxes, **leader)
        axes.text(start + side * BEFORE, height, name, va="center", **look)
    if title:
        axes.text(start + side * BEFORE, max(heights) + gap / 2, title, va="bottom", **look)


def _widen(axes: Axes, room: float, left: bool) -> None:
    """Add room at a side, a share of the view, in which the axis has no ticks."""
    low, high = axes.get_xlim()
    wider = (high - low) * room / (1 - room)
    axes.set_xticks([tick for tick in axes.get_xticks() if low <= tick <= high])
    axes.spines["bottom"].set_bounds(low, high)
    axes.set_xlim((low - wider, high) if left else (low, high + wider))


def _last_drawn(axes: Axes, left: bool) -> float:
    """Where all that is drawn ends at a side, in shares of the view, which it may leave."""
    x = axes.dataLim.x0 if left else axes.dataLim.x1
    at = axes.transAxes.inverted().transform(axes.transData.transform((x, axes.get_ylim()[0])))
    return float(np.clip(at[0], 0, 1))


def apart(heights: Array, gap: float) -> Array:
    """The heights moved as little as possible, in squares, to lie in 0 to 1 and `gap` apart.

    They keep their order. Gaps that do not fit are an error of the caller.
    """
    order = np.argsort(heights, kind="stable")
    steps = gap * np.arange(len(heights))
    # without their steps the heights must not fall: pool neighbours that do, by their means
    pools: list[tuple[float, int]] = []
    for value in (heights[order] - steps).tolist():
        pools.append((value, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (a, n), (b, m) = pools[-2:]
            pools[-2:] = [((a * n + b * m) / (n + m), n + m)]
    even = np.concatenate([np.full(n, value) for value, n in pools])
    placed = np.empty_like(heights)
    placed[order] = np.clip(even, gap / 2, 1 - gap / 2 - steps[-1]) + steps
    return placed


def _ends(axes: Axes, lines: Sequence[Line2D], left: bool) -> Array:
    """Where each line ends or leaves the view, towards a side, in shares of it: [lines, 2]."""
    found = []
    for line in lines:
        at = axes.transData.transform(np.column_stack(line.get_data()))
        corners = axes.transAxes.inverted().transform(at)
        index = np.linspace(0, len(corners) - 1, (len(corners) - 1) * FINE + 1)
        x_y = np.column_stack([np.interp(index, range(len(corners)), one) for one in corners.T])
        seen = x_y[(np.isfinite(x_y) & (x_y >= -1e-6) & (x_y <= 1 + 1e-6)).all(axis=1)]
        edge = seen if len(seen) else np.clip(np.nan_to_num(x_y, nan=1.0), 0, 1)
        found.append(edge[edge[:, 0].argmin() if left else edge[:, 0].argmax()])
    return np.array(found)
