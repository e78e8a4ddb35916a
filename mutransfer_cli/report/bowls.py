"""Loss against a hyperparameter, a bowl a width, with the optima marked."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mutransfer_cli.files.exponents import Axis, Optimum
from mutransfer_cli.report.html import number, power, signed
from mutransfer_cli.report.run import Run, words_of
from mutransfer_cli.report.svg import (
    INK,
    Look,
    legend_below,
    log2_axis,
    margin,
    marker,
    picture,
    scale,
)
from mutransfer_cli.rules.plan import AxisName

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FAR = 0.5  # of the loss's unit above the best of a width
LEAST = 0.01
OPTIMA = ("width", "optimum", "95 % interval", "loss there", "curvature", "tilt", "status")


def bowls(run: Run, name: AxisName, axis: Axis) -> str:
    """The view ends where every width shows 0.5 above its best, or its highest loss if that is
    less; towards what is higher or diverged a line leaves at the top."""
    table = run.along(name)
    cells = {
        width: dict(zip(map(math.log2, rows[name]), rows["eval_loss"], strict=True))
        for width in run.widths
        for rows in [table[table["width"] == width]]
    }
    seen = [[loss for loss in row.values() if math.isfinite(loss)] for row in cells.values()]
    losses = [row for row in seen if row]
    if not losses:
        return f"<p class='left-out'>No bowls of {name}: every trial diverged.</p>"
    found = usable(axis)
    ends = [end for row in losses for end in (min(row), min(max(row), min(row) + FAR))]
    bottom, top = margin([*ends, *(at.loss for at in found.values() if at.loss)], LEAST)
    left, right = margin([x for row in cells.values() for x in row], 1.0)

    def draw(axes: Axes) -> None:
        for i, (width, row) in enumerate(cells.items()):
            colour = scale(i, len(cells))
            y = [min(loss, 3 * top - 2 * bottom) for loss in row.values()]
            style: Look = {"color": colour, "marker": marker(i), "markersize": 3.5, "alpha": 0.85}
            axes.plot([*row], y, label=str(width), **style)
            lost = [x for x, loss in row.items() if math.isinf(loss)]
            # of several widths below each other, so that all are seen
            at = [top - (0.03 + 0.04 * (i % 8)) * (top - bottom)] * len(lost)
            axes.plot(lost, at, "x", color=colour, markersize=5)
        for i, width in enumerate(cells):
            if width in found and found[width].loss is not None:
                _optimum(axes, found[width], scale(i, len(cells)), marker(i))
        log2_axis(axes, "x", left, right)
        axes.set_ylim(bottom, top)
        axes.set_xlabel(name)
        axes.set_ylabel(f"{run.document.metric.replace('_', ' ')} ({run.unit})")
        legend_below(axes, "width")

    title = f"Loss against {words_of(name)} by width"
    caption = (
        "Large outlined marks with bars: the optimum of a width with its 95 % interval."
        if found
        else f"No width has a usable optimum of {name}."
    )
    if any(math.isinf(loss) for row in cells.values() for loss in row.values()):
        caption += " x at the top: diverged."
    return picture(f"bowls-{key(name)}", title, caption, _words(name, axis), draw)


def _optimum(axes: Axes, at: Optimum, colour: str, shape: str) -> None:
    low, value, high = log2_interval(at)
    assert at.loss is not None, "callers leave out optima without a loss"
    ends = [low, high]
    axes.plot(ends, [at.loss] * 2, color=colour, linewidth=3.2, solid_capstyle="butt")
    axes.plot(
        [value],
        [at.loss],
        marker=shape,
        color=colour,
        markersize=7.5,
        markeredgecolor=INK,
        markeredgewidth=1.2,
    )


def _words(name: AxisName, axis: Axis) -> str:
    """The optima as a sentence."""
    parts = [
        f"width {width}: {power(at.value)} ({power(at.low)} to {power(at.high)})"
        if at.status == "ok"
        else f"width {width}: {at.status}"
        for width, at in sorted(axis.optimum.items())
    ]
    return f"Optimal {name} with its 95 % interval. " + "; ".join(parts) + "."


def usable(axis: Axis) -> dict[int, Optimum]:
    return {width: at for width, at in sorted(axis.optimum.items()) if at.status == "ok"}


def log2_interval(at: Optimum) -> tuple[float, float, float]:
    """Low, value and high of an optimum that is ok."""
    assert at.low is not None and at.value is not None and at.high is not None  # noqa: PT018
    return math.log2(at.low), math.log2(at.value), math.log2(at.high)


def optima_rows(axis: Axis) -> list[tuple[object, ...]]:
    """As the columns OPTIMA."""
    return [
        (
            width,
            power(at.value),
            f"{power(at.low)} to {power(at.high)}" if at.low is not None else "",
            number(at.loss),
            number(at.curvature, 3),
            "" if at.tilt is None else signed(at.tilt, 2),
            at.status + (f" ({at.side})" if at.side else ""),
        )
        for width, at in sorted(axis.optimum.items())
    ]


def key(name: AxisName) -> str:
    """An axis in an id."""
    return name.replace(".", "-")
