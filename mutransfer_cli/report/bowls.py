"""The bowls of one hyperparameter: losses by width, with the curves that were fitted to them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mutransfer_cli.fit.arrays import Array
from mutransfer_cli.fit.exponents import Axis
from mutransfer_cli.fit.optimum import Optimum
from mutransfer_cli.fit.phi import reach_of
from mutransfer_cli.report import marks, svg
from mutransfer_cli.report.ends import name_ends
from mutransfer_cli.report.palette import Palette
from mutransfer_cli.report.run import Run
from mutransfer_cli.rules.plan import AxisName
from mutransfer_cli.words import loss, rate, rate_and_power, words_of, words_of_status

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

Bowls = Mapping[int, Mapping[float, float]]  # mean loss by width and log2 of the value
Optima = Mapping[int, Optimum]  # those with status ok, by width

# bowls are seen up to FAR above the best of each width; the view is LEAST high; in the loss's unit
FAR, LEAST = 0.5, 0.01
PLACES = 61  # of a curve
OPTIMUM: svg.Look = {"marker": "o", "markersize": 5.0, "elinewidth": 1.8, "zorder": 3}


def bowls_of(run: Run, name: AxisName) -> Bowls:
    """Mean losses along an axis, the other axes at their best; inf where a seed diverged."""
    cells = run.cells([name])
    return {
        width: dict(zip(np.log2(rows[name]).tolist(), rows["eval_loss"].tolist(), strict=True))
        for width in run.widths
        for rows in [cells[cells["width"] == width]]
    }


def curve(at: Optimum, bowl: Mapping[float, float]) -> tuple[Array, Array] | None:
    """The fitted bowl over the cells that it was fitted to: log2 values and losses.

    Its lowest point is among them. None for optima that were given without a bowl.
    """
    if at.loss is None or at.curvature is None:
        return None
    _, middle, _ = at.octaves
    finite = [x for x, mean in bowl.items() if math.isfinite(mean)]
    spacing = np.array(np.median(np.diff(sorted(bowl))) if len(bowl) > 1 else 1.0)
    reach = float(reach_of(spacing))
    low, high = max(min(finite), middle - reach), min(max(finite), middle + reach)
    x = np.unique([*np.linspace(low, high, PLACES), middle])
    excess = [at.expected_excess(place - middle, 0.0) or 0.0 for place in x.tolist()]
    return x, at.loss + np.array(excess)


def view_of(bowls: Bowls, usable: Optima) -> marks.View:
    """The part of the plane that shows the bowls.

    It reaches FAR above the best of every width; higher and diverged cells lie beyond its top.
    """
    seen = [[loss for loss in bowl.values() if math.isfinite(loss)] for bowl in bowls.values()]
    ends = [end for row in seen if row for end in (min(row), min(max(row), min(row) + FAR))]
    up = marks.margin([*ends, *(at.loss for at in usable.values() if at.loss)], LEAST)
    return marks.margin([x for bowl in bowls.values() for x in bowl], 1.0), up


def figure(
    run: Run, name: AxisName, axis: Axis, bowls: Bowls, view: marks.View | None = None
) -> svg.Figure:
    """Loss against the hyperparameter, a bowl per width, with the optima marked.

    Args:
        view: the part of the plane to show, such as one that several figures share.
    """
    usable = axis.usable
    across, (bottom, top) = view or view_of(bowls, usable)

    def draw(axes: Axes, colours: Palette) -> None:
        axes.set(xlim=across, ylim=(bottom, top), xlabel=words_of(name), ylabel=run.loss_label)
        marks.log2_axis(axes.xaxis, decimals=True)
        lines = []
        for i, (width, bowl) in enumerate(bowls.items()):
            colour = colours.step(i, len(bowls))
            # each width has its own height, so that crosses do not hide each other
            crosses = top - (0.03 + 0.04 * (i % 8)) * (top - bottom)
            _cells(axes, f"width {width}, {name}", bowl, colour, crosses)
            lines.append(_line(axes, width, bowl, usable.get(width), colour))
            if width in usable:
                look = OPTIMUM | {"color": colour, "markeredgecolor": colours.ink}
                _optimum(axes, f"width {width}, best {name}", usable[width], look)
        names = [str(width) for width in bowls]
        name_ends(axes, lines, names, "width", either_side=view is None)  # views shared stay alike

    caption = _caption(run, name, bowls, usable)
    title = f"Loss against {words_of(name)} by width"
    return svg.figure(f"bowls-{name}", title, caption, draw, _words(name, axis))


def _cells(axes: Axes, what: str, bowl: Mapping[float, float], colour: str, crosses: float) -> None:
    """Draw the measured losses, and those that diverged as crosses at a height."""
    for x, mean in bowl.items():
        at = f"{what} {rate_and_power(2**x)}"
        if math.isfinite(mean):
            (point,) = axes.plot([x], [mean], "o", color=colour, markersize=2.6, markeredgewidth=0)
            svg.hover(point, f"{at}: {loss(mean)}")
        else:
            (point,) = axes.plot([x], [crosses], "x", color=colour, markersize=3.3)
            svg.hover(point, f"{at}: diverged")


def _line(
    axes: Axes, width: int, bowl: Mapping[float, float], at: Optimum | None, colour: str
) -> Line2D:
    """Draw the fitted curve, and dashes to the cells beyond it or between all where there is none.

    Returns:
        The whole line, which is not drawn.
    """
    from matplotlib.lines import Line2D

    finite = [place for place in sorted(bowl.items()) if math.isfinite(place[1])]
    parts, fitted = [finite], curve(at, bowl) if at else None
    if fitted:
        line = [*zip(*fitted, strict=True)]
        before = [*(place for place in finite if place[0] < line[0][0]), line[0]]
        after = [line[-1], *(place for place in finite if place[0] > line[-1][0])]
        parts = [before, after]
        (drawn,) = axes.plot(*fitted, color=colour, label=str(width))
        svg.hover(drawn, f"width {width}")
    for part in parts:
        look: svg.Look = {"color": colour, "linewidth": 0.5, "alpha": 0.8}
        (dashes,) = axes.plot(*zip(*part, strict=True), "--", **look) if part else (None,)
        if dashes and not fitted:
            svg.hover(dashes, f"width {width}, no usable optimum")
    whole = parts[0] + [*zip(*fitted, strict=True)] + parts[1] if fitted else finite
    return Line2D(*zip(*whole, strict=True), color=colour) if whole else Line2D([], [])


def _optimum(axes: Axes, what: str, at: Optimum, look: svg.Look) -> None:
    if at.loss is None:
        return
    low, value, high = at.octaves
    mark = axes.errorbar([value], [at.loss], xerr=[[value - low], [high - value]], **look)
    svg.hover(mark[0], f"{what} {rate_and_power(at.value)}, {interval_words(at)}: {loss(at.loss)}")


def interval_words(at: Optimum) -> str:
    """The interval of a usable optimum."""
    return f"{rate(at.low)} to {rate(at.high)}"


def _caption(run: Run, name: AxisName, bowls: Bowls, usable: Optima) -> str:
    caption = f"No width has a usable optimum of {name}; dashes join the measured losses."
    if usable:
        caption = (
            "Points: measured; curves: fitted; outlined marks with bars: optimum of a width and "
            "its 95% interval. Dashes join what was not fitted."
        )
    if any(math.isinf(mean) for bowl in bowls.values() for mean in bowl.values()):
        caption += " x at the top: diverged."
    return caption


def _words(name: AxisName, axis: Axis) -> str:
    found = [
        f"width {width}: {rate_and_power(at.value)}, {interval_words(at)}"
        if at.status == "ok"
        else f"width {width}: {words_of_status(at.status, at.side)}"
        for width, at in sorted(axis.optimum.items())
    ]
    return f"Optimal {name} with its 95% interval. {'; '.join(found)}."
