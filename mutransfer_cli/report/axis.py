"""Figures of one hyperparameter: its bowls, its optima across widths, and what transfer costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mutransfer_cli.fit.arrays import Array
from mutransfer_cli.fit.exponents import Axis
from mutransfer_cli.report import bowls, marks, svg
from mutransfer_cli.report.bowls import OPTIMUM, Bowls, Optima, interval_words
from mutransfer_cli.report.palette import Palette
from mutransfer_cli.report.run import Run
from mutransfer_cli.rules.plan import AxisName
from mutransfer_cli.words import loss, rate_and_power, words_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BAND = 41  # points of the band around the line


def figures(run: Run, name: AxisName, axis: Axis) -> list[svg.Figure]:
    """The figures for which there are losses and optima, up to three."""
    usable = axis.usable
    optima = [optima_figure(name, axis)] if usable else []
    if not run.has_losses:
        return optima
    found = bowls.bowls_of(run, name)
    if not any(math.isfinite(mean) for bowl in found.values() for mean in bowl.values()):
        return []
    drawn = [bowls.figure(run, name, axis, found), *optima]
    losses = transferred(found, usable, axis.expected_exponent or 0.0) if usable else {}
    if len(losses) > 1:
        drawn.append(_transferred(run, name, axis, min(usable), losses))
    return drawn


def transferred(cells: Bowls, usable: Optima, expected: float) -> dict[int, tuple[float, float]]:
    """Loss by width at the narrowest width's optimum times width^`expected`, and at its own one.

    Widths at which either cannot be interpolated are left out.
    """
    start, found = min(usable), {}
    for width, at in usable.items():
        carried = usable[start].octaves[1] + expected * math.log2(width / start)
        moved = interpolated(cells[width], carried)
        own = interpolated(cells[width], at.octaves[1])
        if moved is not None and own is not None:
            found[width] = moved, own
    return found


def interpolated(bowl: Mapping[float, float], at: float) -> float | None:
    """Loss at a log2 value, by the parabola through the three nearest cells.

    None outside the cells, next to a diverged cell, and with fewer than three cells.
    """
    if len(bowl) < 3 or not min(bowl) <= at <= max(bowl):
        return None
    nearest = sorted(bowl, key=lambda x: abs(x - at))[:3]
    losses = [bowl[x] for x in nearest]
    if not np.isfinite(losses).all():
        return None
    return float(np.polyfit(np.array(nearest) - at, losses, 2)[-1])


def view_of_optima(axis: Axis) -> marks.View:
    """The part of the plane that shows the optima and the fitted line, in log2."""
    places = [np.array(at.octaves) for at in axis.usable.values()]
    across = marks.margin(np.log2(sorted(axis.optimum)).tolist(), 1.0)
    return across, marks.margin(
        np.concatenate([*places, *_lines(axis, _places(axis))]).tolist(), 1.0
    )


def _places(axis: Axis) -> Array:
    widths = np.log2(sorted(axis.optimum))
    return np.linspace(widths[0], widths[-1], BAND)


def optima_figure(name: AxisName, axis: Axis, view: marks.View | None = None) -> svg.Figure:
    """log2 optimum against log2 width, with the fitted line, its band and the expected slope.

    Args:
        view: the part of the plane to show, such as one that several figures share.
    """
    usable, widths = axis.usable, sorted(axis.optimum)
    x = _places(axis)
    lines = _lines(axis, x)
    across, up = view or view_of_optima(axis)

    def draw(axes: Axes, colours: Palette) -> None:
        if lines:
            low, middle, high, *expected = lines
            axes.fill_between(x, low, high, color=colours.hue(0), alpha=0.18, linewidth=0)
            (fitted,) = axes.plot(x, middle, color=colours.hue(0), label="fit, 95% band")
            svg.hover(fitted, axis.sentence)
            for line in expected:
                label = f"expected slope {axis.expected_exponent:g}"
                axes.plot(x, line, "--", color=colours.ink, linewidth=0.8, label=label)
        for width, at in usable.items():
            lowest, value, highest = at.octaves
            colour = colours.step(widths.index(width), len(widths))
            look = OPTIMUM | {"color": colour, "markeredgecolor": colours.ink}
            ends = [[value - lowest], [highest - value]]
            mark = axes.errorbar([math.log2(width)], [value], yerr=ends, **look)
            best = f"width {width}, best {name} {rate_and_power(at.value)}"
            svg.hover(mark[0], f"{best}, {interval_words(at)}")
        marks.width_axis(axes, widths)
        marks.log2_axis(axes.yaxis, decimals=True)
        axes.set(xlim=across, ylim=up, ylabel=f"optimal {words_of(name)}")
        marks.legend_above(axes)

    words = f"{axis.sentence}."
    if axis.expected_exponent is not None:
        words += f" The rule expects {axis.expected_exponent:g}."
    caption = "Both axes are logarithmic; bars: 95% intervals."
    missing = [str(width) for width in widths if width not in usable]
    if missing:
        caption += f" No usable optimum: width {', '.join(missing)}."
    title = f"Optimal {words_of(name)} against width"
    return svg.figure(f"optima-{name}", title, caption, draw, words)


def _lines(axis: Axis, x: Array) -> list[Array]:
    """log2 of the fitted line's lower end, middle and upper end at log2 widths `x`.

    A fourth line through its centre has the expected slope, if there is one. Empty without a fit.
    """
    if axis.line is None or axis.exponent is None:
        return []
    middle, half, *_ = np.array([axis.at(width) for width in 2**x]).T
    lines = [middle - half, middle, middle + half]
    if axis.expected_exponent is not None:
        away = x - math.log2(axis.line.width)
        lines.append(math.log2(axis.line.value) + axis.expected_exponent * away)
    return lines


def _transferred(
    run: Run, name: AxisName, axis: Axis, start: int, losses: Mapping[int, tuple[float, float]]
) -> svg.Figure:
    """Loss against width at each width's own optimum and at the carried value."""

    def draw(axes: Axes, colours: Palette) -> None:
        at, moved, own = np.log2([*losses]), *zip(*losses.values(), strict=True)
        # the wider line shows on both sides of the other where they coincide
        wide: svg.Look = {"color": colours.hue(0), "linewidth": 3.0, "alpha": 0.4}
        axes.plot(at, own, label="own optimum", **wide)
        axes.plot(at, moved, "--", color=colours.hue(1), label=f"{name} of width {start}")
        for x, (width, pair) in zip(at, losses.items(), strict=True):
            for y, colour, size in zip(pair, (colours.hue(1), colours.hue(0)), (3, 6), strict=True):
                (point,) = axes.plot([x], [y], "o", color=colour, markersize=size, zorder=9 - size)
                svg.hover(point, f"width {width}: {_compared(*pair)}")
        marks.width_axis(axes, list(losses))
        axes.set_ylabel(run.loss_label)
        marks.legend_above(axes)

    words = "; ".join(f"width {width}: {_compared(*pair)}" for width, pair in losses.items())
    how = f"scaled as width^{axis.expected_exponent:g}" if axis.expected_exponent else "unchanged"
    caption = (
        f"Dashed: the optimum of width {start}, {how}. Losses between cells are interpolated by a "
        "parabola through the three nearest."
    )
    title = f"Loss against width at the transferred {words_of(name)}"
    return svg.figure(f"transferred-{name}", title, caption, draw, f"{words}.")


def _compared(moved: float, own: float) -> str:
    return f"{loss(moved)} against {loss(own)} at its own optimum"
