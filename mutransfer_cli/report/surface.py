"""Maps of the loss over learning rate and weight decay, one for each width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mutransfer_cli.fit.arrays import Array
from mutransfer_cli.fit.exponents import Decay
from mutransfer_cli.report import marks, svg
from mutransfer_cli.report.palette import SHADES, Palette
from mutransfer_cli.report.run import Run
from mutransfer_cli.rules.plan import AxisName
from mutransfer_cli.words import loss, rate_and_power

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAIR: tuple[AxisName, AxisName] = ("lr", "weight_decay")
LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # above the best of a width, in the loss's unit
WHITE, BLACK = "#ffffff", "#111111"  # readable on every shade, in both themes


def maps(run: Run) -> list[svg.Figure]:
    """A map for each width with several of both; none if the sweep does not vary both."""
    decay = run.document.decay
    if decay is None or decay.product is None:
        return []
    cells = run.cells(PAIR)
    return [
        _map(run, decay, width, rows)
        for width in run.widths
        for rows in [cells[cells["width"] == width]]
        if all(rows[name].nunique() > 1 for name in PAIR)
    ]


def _map(run: Run, decay: Decay, width: int, rows: pd.DataFrame) -> svg.Figure:
    cells = rows.assign(**{name: np.log2(rows[name]).round(6) for name in PAIR})
    losses = cells.pivot(index="weight_decay", columns="lr", values="eval_loss")
    lowest = cells.iloc[int(cells["eval_loss"].argmin())]
    x, y = float(lowest["lr"]), float(lowest["weight_decay"])
    diverged = cells[np.isinf(cells["eval_loss"])]
    optimum = [
        math.log2(at.value)
        for name in PAIR
        for at in [run.document.axes[name].optimum.get(width)]
        if at is not None and at.status == "ok" and at.value is not None
    ]
    ridge = _ridge(run, decay, width, np.array([x, y]))

    def draw(axes: Axes, colours: Palette) -> None:
        from matplotlib.colors import ListedColormap

        shades = ListedColormap([colours.shade(level) for level in range(len(SHADES))])
        above = losses - lowest["eval_loss"]
        levels = np.searchsorted(LEVELS, above, side="right")
        shown = np.ma.masked_where(~np.isfinite(above), levels)
        view: svg.Look = {"cmap": shades, "vmin": -0.5, "vmax": len(SHADES) - 0.5}
        axes.pcolormesh(losses.columns, losses.index, shown, shading="nearest", **view)
        axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())  # the map fills the view
        axes.plot(diverged["lr"], diverged["weight_decay"], "x", color=colours.ink, markersize=4.6)
        for at_x, at_y, mean in cells[[*PAIR, "eval_loss"]].itertuples(index=False):
            (unseen,) = axes.plot([at_x], [at_y], "o", alpha=0.0)
            found = loss(mean) if math.isfinite(mean) else "diverged"
            svg.hover(unseen, f"{_named([at_x, at_y])}: {found}")
        if ridge is not None:
            axes.plot(*ridge, color=BLACK, linewidth=2.4)
            axes.plot(*ridge, linestyle=(0, (4, 3)), color=WHITE, linewidth=1.1)
        if math.isfinite(lowest["eval_loss"]):
            ring: svg.Look = {"markerfacecolor": "none", "markersize": 8.5}
            axes.plot([x], [y], "o", markeredgecolor=WHITE, markeredgewidth=2.6, **ring)
            axes.plot([x], [y], "o", markeredgecolor=BLACK, markeredgewidth=1.2, **ring)
        if len(optimum) == 2:
            dot: svg.Look = {"color": BLACK, "markeredgecolor": WHITE, "markeredgewidth": 1.1}
            axes.plot(optimum[:1], optimum[1:], "o", markersize=5.3, **dot)
        axes.grid(False)
        marks.log2_axis(axes.xaxis, decimals=True)
        marks.log2_axis(axes.yaxis, decimals=True)
        axes.set(xlabel="learning rate", ylabel="weight decay")
        for level, label in enumerate([*(f"≤ {at:g}" for at in LEVELS), f"> {LEVELS[-1]:g}"]):
            axes.plot([], [], "s", color=colours.shade(level), markersize=6, label=label)
        marks.legend_above(axes, run.unit)

    words = (
        f"Lowest cell: {_named([x, y])}, loss {loss(lowest['eval_loss'])}. "
        + (f"Fitted optimum: {_named(optimum)}. " if len(optimum) == 2 else "")
        + f"{len(diverged)} of {len(cells)} cells diverged."
    )
    title = f"Loss over learning rate and weight decay at width {width}"
    height = svg.HEIGHT + 20  # for the legend of colours
    return svg.figure(f"joint-{width}", title, words, draw, height=height)


def _named(place: Sequence[float]) -> str:
    return ", ".join(
        f"{name} {rate_and_power(2**at)}" for name, at in zip(PAIR, place, strict=True)
    )


def _ridge(run: Run, decay: Decay, width: int, lowest: Array) -> Array | None:
    """The ends of the ridge, (lr, weight decay) by two points, in log2; None without a ridge.

    It runs through the fitted position across the ridge, or the lowest cell if there is none.
    """
    if decay.ridge is None:
        return None
    across = math.radians(decay.ridge.angle)
    normal = np.array([math.cos(across), math.sin(across)])
    place = float(normal @ lowest)
    at = decay.product.optimum.get(width) if decay.product and decay.ridge.product_only else None
    if at is not None and at.value is not None:
        # log2 of lr * weight_decay counts along (1, 1), which is sqrt(2) times the unit normal
        length = math.sqrt(2) if run.document.decay_convention == "lr_coupled" else 1.0
        place = math.log2(at.value) / length
    along, middle = np.array([-normal[1], normal[0]]), place * normal
    return np.stack([middle - 60 * along, middle + 60 * along], axis=1)
