"""Figures of one hyperparameter: its bowls, its optima across widths, and what transfer costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from mutransfer_cli.fit.arrays import Array
from mutransfer_cli.fit.exponents import Axis
from mutransfer_cli.fit.optimum import Optimum
from mutransfer_cli.report import marks, svg
from mutransfer_cli.report.palette import Palette
from mutransfer_cli.report.run import Run
from mutransfer_cli.rules.plan import AxisName
from mutransfer_cli.words import power, words_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Bowls = Mapping[int, Mapping[float, float]]  # mean loss by width and log2 of the value
Optima = Mapping[int, Optimum]  # those with status ok, by width

# bowls are seen up to FAR above the best of each width; the view is LEAST high; in the loss's unit
FAR, LEAST = 0.5, 0.01
BAND = 41  # points of the band around the line
OPTIMUM: svg.Look = {"markersize": 5.0, "elinewidth": 2.1}


def figures(run: Run, name: AxisName, axis: Axis) -> tuple[list[svg.Figure], list[str]]:
    """Up to three figures, and sentences about those that cannot be drawn."""
    usable = axis.usable
    if not run.has_losses:
        none = f"No bowls of {name}: the table holds best values and no losses."
        return [_optima(name, axis, usable)] if usable else [], [none]
    bowls = bowls_of(run, name)
    if not any(math.isfinite(loss) for bowl in bowls.values() for loss in bowl.values()):
        return [], [f"No bowls of {name}: every trial diverged."]
    drawn = [_bowls(run, name, axis, bowls, usable)]
    if not usable:
        return drawn, []
    drawn.append(_optima(name, axis, usable))
    losses = transferred(bowls, usable, axis.expected_exponent or 0.0)
    if len(losses) < 2:
        why = (
            f"No loss at a transferred {name}: fewer than two widths have a usable optimum with "
            "the transferred value inside the swept range."
        )
        return drawn, [why]
    return [*drawn, _transferred(run, name, axis, min(usable), losses)], []


def bowls_of(run: Run, name: AxisName) -> Bowls:
    """Mean losses along an axis, the other axes at their best; inf where a seed diverged."""
    cells = run.cells([name])
    return {
        width: dict(zip(np.log2(rows[name]).tolist(), rows["eval_loss"].tolist(), strict=True))
        for width in run.widths
        for rows in [cells[cells["width"] == width]]
    }


def transferred(bowls: Bowls, usable: Optima, expected: float) -> dict[int, tuple[float, float]]:
    """Loss by width at the narrowest width's optimum times width^`expected`, and at its own one.

    Widths at which either cannot be interpolated are left out.
    """
    start, found = min(usable), {}
    for width, at in usable.items():
        carried = usable[start].octaves[1] + expected * math.log2(width / start)
        moved = interpolated(bowls[width], carried)
        own = interpolated(bowls[width], at.octaves[1])
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


def _bowls(run: Run, name: AxisName, axis: Axis, bowls: Bowls, usable: Optima) -> svg.Figure:
    """Loss against the hyperparameter, a bowl per width, with the optima marked."""
    # the view shows FAR above the best of every width; higher and diverged cells lie beyond its top
    seen = [[loss for loss in bowl.values() if math.isfinite(loss)] for bowl in bowls.values()]
    ends = [end for row in seen if row for end in (min(row), min(max(row), min(row) + FAR))]
    bottom, top = marks.margin([*ends, *(at.loss for at in usable.values() if at.loss)], LEAST)
    left, right = marks.margin([x for bowl in bowls.values() for x in bowl], 1.0)

    def draw(axes: Axes, colours: Palette) -> None:
        for i, (width, bowl) in enumerate(bowls.items()):
            look: svg.Look = {"color": colours.step(i, len(bowls)), "marker": marks.marker(i)}
            y = [min(loss, 3 * top - 2 * bottom) for loss in bowl.values()]
            axes.plot([*bowl], y, label=str(width), markersize=2.3, alpha=0.85, **look)
            lost = [x for x, loss in bowl.items() if math.isinf(loss)]
            # each width has its own height, so that crosses do not hide each other
            height = top - (0.03 + 0.04 * (i % 8)) * (top - bottom)
            axes.plot(lost, [height] * len(lost), "x", color=look["color"], markersize=3.3)
            at = usable.get(width)
            if at is not None and at.loss is not None:
                low, value, high = at.octaves
                ends = [[value - low], [high - value]]
                axes.errorbar(
                    [value],
                    [at.loss],
                    xerr=ends,
                    zorder=3,
                    markeredgecolor=colours.ink,
                    **look,
                    **OPTIMUM,
                )
        marks.log2_axis(axes.xaxis)
        axes.set(xlim=(left, right), ylim=(bottom, top), xlabel=name, ylabel=run.loss_label)
        marks.legend_above(axes, "width")

    caption = f"No width has a usable optimum of {name}."
    if usable:
        caption = "Large outlined marks with bars: optimum of a width and its 95% interval."
    if any(math.isinf(loss) for bowl in bowls.values() for loss in bowl.values()):
        caption += " x at the top: diverged."
    found = [
        f"width {width}: {power(at.value)} ({power(at.low)} to {power(at.high)})"
        if at.status == "ok"
        else f"width {width}: {at.status}"
        for width, at in sorted(axis.optimum.items())
    ]
    words = f"Optimal {name} with its 95% interval. {'; '.join(found)}."
    title = f"Loss against {words_of(name)} by width"
    return svg.figure(f"bowls-{name}", title, caption, draw, words)


def _optima(name: AxisName, axis: Axis, usable: Optima) -> svg.Figure:
    """log2 optimum against log2 width, with the fitted line, its band and the expected slope."""
    widths = sorted(axis.optimum)
    intervals = {width: at.octaves for width, at in usable.items()}
    x = np.linspace(math.log2(widths[0]), math.log2(widths[-1]), BAND)
    lines = _lines(axis, x)
    view = marks.margin([*np.concatenate([*map(np.array, intervals.values()), *lines])], 1.0)

    def draw(axes: Axes, colours: Palette) -> None:
        if lines:
            low, middle, high, *expected = lines
            axes.fill_between(x, low, high, color=colours.hue(0), alpha=0.18, linewidth=0)
            axes.plot(x, middle, color=colours.hue(0), label="fit, 95% band")
            for line in expected:
                label = f"expected slope {axis.expected_exponent:g}"
                axes.plot(x, line, "--", color=colours.ink, linewidth=0.8, label=label)
        for width, (lowest, value, highest) in intervals.items():
            i, ends = widths.index(width), [[value - lowest], [highest - value]]
            look: svg.Look = {"color": colours.step(i, len(widths)), "marker": marks.marker(i)}
            axes.errorbar(
                [math.log2(width)],
                [value],
                yerr=ends,
                markeredgecolor=colours.ink,
                **look,
                **OPTIMUM,
            )
        marks.width_axis(axes, widths)
        marks.log2_axis(axes.yaxis)
        axes.set(ylim=view, ylabel=f"optimal {name}")
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
        wide: svg.Look = {"color": colours.hue(0), "linewidth": 3.3, "markersize": 7, "alpha": 0.45}
        axes.plot(at, own, "o-", label="own optimum", **wide)
        axes.plot(at, moved, "s--", color=colours.hue(1), label=f"{name} of width {start}")
        marks.width_axis(axes, list(losses))
        axes.set_ylabel(run.loss_label)
        marks.legend_above(axes)

    words = "; ".join(
        f"width {width}: {moved:.4g} against {own:.4g} at its own optimum"
        for width, (moved, own) in losses.items()
    )
    how = f"scaled as width^{axis.expected_exponent:g}" if axis.expected_exponent else "unchanged"
    caption = (
        f"Dashed: the optimum of width {start}, {how}. Losses between cells are interpolated by a "
        "parabola through the three nearest."
    )
    title = f"Loss against width at the transferred {words_of(name)}"
    return svg.figure(f"transferred-{name}", title, caption, draw, f"{words}.")
