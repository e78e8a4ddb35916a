"""Across widths: the optima with the fitted line, and what a transferred value costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mutransfer_cli.files.exponents import Axis
from mutransfer_cli.report.bowls import key, log2_interval, usable
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

Array = npt.NDArray[np.float64]
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
    middle = value + axis.exponent.value * (x - centre)
    # the errors of value and slope are independent at the centre: the docstring of Line
    own, slope = math.log2(axis.line.high) - value, axis.exponent.high - axis.exponent.value
    half = np.hypot(own, slope * (x - centre))
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
