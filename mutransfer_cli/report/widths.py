"""Loss against a hyperparameter, a bowl a width, with the optima marked.

MERGED:
Across widths: the optima with the fitted line, and what a transferred value costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mutransfer_cli.fit.arrays import Array
from mutransfer_cli.fit.exponents import Axis, Optimum
from mutransfer_cli.report.html import number, power, signed
from mutransfer_cli.report.run import Run, words_of
from mutransfer_cli.report.svg import (
    INK,
    Look,
    hue,
    legend_below,
    log2_axis,
    margin,
    marker,
    picture,
    scale,
    width_axis,
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


BAND = 41  # places of the band


def optima(name: AxisName, axis: Axis) -> str:
    """log2 optimum against log2 width, with the line, its band and the slope that the rule
    expects."""
    found, all_widths = usable(axis), sorted(axis.optimum)
    if not found:
        return ""  # the bowls say so
    y_of = {width: log2_interval(at) for width, at in found.items()}
    x = np.linspace(math.log2(all_widths[0]), math.log2(all_widths[-1]), BAND)
    lines = _lines(axis, x)
    places = [*y_of.values(), *(line.tolist() for line in lines)]
    view = margin([y for some in places for y in some], 1.0)

    def draw(axes: Axes) -> None:
        if lines:
            low, middle, high, expected = lines
            axes.fill_between(x, low, high, color=hue(0), alpha=0.18, linewidth=0)
            axes.plot(x, middle, color=hue(0), label="fit, 95 % band")
            if len(expected):
                label = f"expected slope {axis.expected_exponent:g}"
                axes.plot(x, expected, "--", color=INK, linewidth=1.2, label=label)
        for width, (lowest, value, highest) in y_of.items():
            i, at = all_widths.index(width), math.log2(width)
            colour = scale(i, len(all_widths))
            axes.plot(
                [at, at], [lowest, highest], color=colour, linewidth=3.2, solid_capstyle="butt"
            )
            mark: Look = {
                "marker": marker(i),
                "color": colour,
                "markersize": 8,
                "markeredgecolor": INK,
            }
            axes.plot([at], [value], **mark)
        width_axis(axes, all_widths)
        log2_axis(axes, "y", *view)
        axes.set_ylabel(f"optimal {name}")
        legend_below(axes)

    words = f"{axis.sentence}." + (
        "" if axis.expected_exponent is None else f" The rule expects {axis.expected_exponent:g}."
    )
    missing = [str(width) for width in all_widths if width not in found]
    caption = "Both axes are logarithmic; bars: 95 % intervals." + (
        f" No usable optimum: width {', '.join(missing)}." if missing else ""
    )
    title = f"Optimal {words_of(name)} against width"
    return picture(f"optima-{key(name)}", title, caption, words, draw)


def _lines(axis: Axis, x: Array) -> list[Array]:
    """log2 of the fit's lower end, middle and upper end, and of the expected line through its
    centre (empty where nothing is expected); nothing without a fit."""
    if axis.line is None or axis.exponent is None:
        return []
    centre, value = math.log2(axis.line.width), math.log2(axis.line.value)
    along = np.array([axis.at(width) for width in 2**x])
    middle, half = along[:, 0], along[:, 1]
    expected = axis.expected_exponent
    by_rule = np.array([]) if expected is None else value + expected * (x - centre)
    return [middle - half, middle, middle + half, by_rule]


@dataclass(frozen=True)
class Carried:
    """The optimum of the narrowest usable width carried to another by the rule.

    Attributes:
        value: there.
        loss: at it; best: at that width's own optimum. Both between cells by one form; None outside
            what was swept or beside a diverged cell.
    """

    value: float
    loss: float | None
    best: float | None


def carried(run: Run, name: AxisName, axis: Axis) -> dict[int, Carried]:
    """By width, of those with a usable optimum."""
    found = {width: 2 ** log2_interval(at)[1] for width, at in usable(axis).items()}
    if not found:
        return {}
    start, expected, table = min(found), axis.expected_exponent or 0.0, run.along(name)
    moved = {}
    for width, best in found.items():
        rows = table[table["width"] == width]
        cells = rows[name].tolist(), rows["eval_loss"].tolist()
        at = found[start] * (width / start) ** expected
        moved[width] = Carried(at, interpolated(*cells, at), interpolated(*cells, best))
    return moved


def interpolated(values: Sequence[float], losses: Sequence[float], at: float) -> float | None:
    """By the parabola in log2 through the three cells nearest to `at`.

    None where `at` lies outside the cells, one of the three diverged, or there are fewer.
    """
    if len(values) < 3 or not min(values) <= at <= max(values):
        return None
    x, to = np.log2(np.array(values)), math.log2(at)
    nearest = np.argsort(np.abs(x - to), kind="stable")[:3]
    y = np.array(losses)[nearest]
    if not np.isfinite(y).all():
        return None
    return float(np.polyval(np.polyfit(x[nearest] - to, y, 2), 0.0))


def transferred(run: Run, name: AxisName, axis: Axis) -> str:
    """Loss against width at each width's own optimum and at the carried value."""
    found = carried(run, name, axis)
    if not found:
        return ""  # the bowls say so
    shown = {
        width: (one.loss, one.best)
        for width, one in found.items()
        if one.loss is not None and one.best is not None
    }
    if len(shown) < 2:
        return (
            f"<p class='left-out'>No loss at a transferred {name}: fewer than two widths have a "
            "usable optimum with the transferred value within what was swept.</p>"
        )

    def draw(axes: Axes) -> None:
        at, (moved, best) = [math.log2(width) for width in shown], zip(*shown.values(), strict=True)
        # the wider line shows on both sides of the other where they are the same
        own: Look = {"color": hue(0), "linewidth": 5, "markersize": 11, "alpha": 0.45}
        axes.plot(at, best, "o-", label="own optimum", **own)
        axes.plot(at, moved, "s--", color=hue(1), label=f"{name} of width {min(found)}")
        width_axis(axes, list(shown))
        axes.set_ylabel(f"{run.document.metric.replace('_', ' ')} ({run.unit})")
        legend_below(axes)

    words = "; ".join(
        f"width {width}: {moved:.4g} against {best:.4g} at its own optimum"
        for width, (moved, best) in shown.items()
    )
    rule = axis.expected_exponent or 0.0
    how = "kept" if rule == 0 else f"moved as width^{rule:g}"
    caption = (
        f"Dashed: the optimum of width {min(found)}, {how}; between cells by a parabola through "
        "the three nearest."
    )
    title = f"Loss against width at the transferred {words_of(name)}"
    return picture(f"transferred-{key(name)}", title, caption, words + ".", draw)
