"""The joint surface of learning rate and weight decay, a map a width."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mutransfer_cli.fit.cells import cell_means, profile
from mutransfer_cli.fit.exponents import Decay
from mutransfer_cli.report.html import left_out, power, section
from mutransfer_cli.report.run import Run
from mutransfer_cli.report.svg import (
    HEIGHT,
    INK,
    Look,
    edges,
    legend_below,
    log2_axis,
    picture,
    shade,
)
from mutransfer_cli.rules.plan import AXES

if TYPE_CHECKING:
    from matplotlib.axes import Axes


KEY, TITLE = "joint", "Learning rate and weight decay together"
PAIR = ["lr", "weight_decay"]
KEY_HEIGHT = 30.0  # of the legend of colours
LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # of the loss's unit above the best of a width
WHITE, BLACK = "#ffffff", "#111111"  # readable on every shade, in both themes


def joint(run: Run) -> str:
    """A map for each width with more than one learning rate and weight decay."""
    decay = run.document.decay
    if decay is None or decay.product is None:
        why = "Left out: not both of learning rate and weight decay are axes of this sweep."
        return left_out(KEY, TITLE, why)
    others = [axis for axis in AXES if axis not in PAIR]
    positive = run.trials[run.trials["weight_decay"] > 0]
    cells = cell_means(profile(positive, PAIR, others, "eval_loss"), PAIR, "eval_loss")
    maps = [
        _map(run, decay, width, rows)
        for width in run.widths
        for rows in [cells[cells["width"] == width]]
        if rows["lr"].nunique() > 1 and rows["weight_decay"].nunique() > 1
    ]
    return section(KEY, TITLE, _note(decay, run.unit), *maps)


def _note(decay: Decay, unit: str) -> str:
    key = (
        "Each square is a cell of the sweep, its colour how far its loss lies above the lowest of "
        f"the width ({unit}); x: diverged; ring: the lowest cell; dot: the fitted optimum."
    )
    if decay.ridge is None:
        return f"{key} No ridge: both are identified, or too little is known to see one."
    return (
        f"{key} Dashed: the ridge, along which the loss hardly changes; the direction across it "
        f"lies {decay.ridge.angle:.1f} ± {decay.ridge.angle_error:.1f} degrees from the lr axis."
    )


def _map(run: Run, decay: Decay, width: int, rows: pd.DataFrame) -> str:
    x, y = (np.log2(rows[name].to_numpy()).round(6) for name in PAIR)
    loss = rows["eval_loss"].to_numpy()
    columns, lines = sorted(set(x.tolist())), sorted(set(y.tolist()))
    x_edges, y_edges = edges(columns), edges(lines)
    lowest = int(np.argmin(loss))
    dots = [
        math.log2(at.value)
        for name in ("lr", "weight_decay")
        for axis in [run.document.axes[name]]
        for at in [axis.optimum.get(width)]
        if at is not None and at.status == "ok" and at.value is not None
    ]

    def draw(axes: Axes) -> None:
        from matplotlib.patches import Rectangle

        for at_x, at_y, at in zip(x, y, loss, strict=True):
            i, j = columns.index(at_x), lines.index(at_y)
            if math.isinf(at):
                axes.plot([at_x], [at_y], "x", color=INK, markersize=7)
                continue
            corner, size = (x_edges[i], y_edges[j]), (x_edges[i + 1] - x_edges[i])
            level = int(np.searchsorted(LEVELS, at - loss[lowest], side="right"))
            high = y_edges[j + 1] - y_edges[j]
            axes.add_patch(Rectangle(corner, size, high, color=shade(level), linewidth=0))
        _ridge(axes, run, width, (x[lowest], y[lowest]))
        if math.isfinite(loss[lowest]):
            for colour, thick in ((WHITE, 4.0), (BLACK, 1.8)):
                ring: Look = {
                    "markerfacecolor": "none",
                    "markeredgecolor": colour,
                    "markersize": 13,
                }
                axes.plot([x[lowest]], [y[lowest]], "o", markeredgewidth=thick, **ring)
        if len(dots) == 2:
            dot: Look = {"color": BLACK, "markeredgecolor": WHITE, "markeredgewidth": 1.6}
            axes.plot(dots[:1], dots[1:], "o", markersize=8, **dot)
        axes.grid(False)
        log2_axis(axes, "x", x_edges[0], x_edges[-1])
        log2_axis(axes, "y", y_edges[0], y_edges[-1])
        axes.set_xlabel("lr")
        axes.set_ylabel("weight_decay")
        steps = zip((0.0, *LEVELS), (*LEVELS, math.inf), strict=True)
        for level, (above, below) in enumerate(steps):
            label = f"≤ {below:g}" if below < math.inf else f"> {above:g}"
            axes.plot([], [], "s", color=shade(level), markersize=9, label=label)
        legend_below(axes, run.unit)

    best = rows.iloc[lowest]
    fitted = ""
    if len(dots) == 2:
        fitted = f"Fitted optimum: lr {power(2 ** dots[0])}, weight_decay {power(2 ** dots[1])}. "
    words = (
        f"Lowest cell: lr {power(best['lr'])}, weight_decay {power(best['weight_decay'])}, loss "
        f"{best['eval_loss']:.4g}. "
        f"{fitted}{int(np.isinf(loss).sum())} of {len(loss)} cells diverged."
    )
    title = f"Loss over lr and weight decay at width {width}"
    return picture(f"joint-{width}", title, words, words, draw, HEIGHT + KEY_HEIGHT)


def _ridge(axes: Axes, run: Run, width: int, lowest: tuple[float, float]) -> None:
    """Through the fitted place across the ridge, or the lowest cell where there is none."""
    decay = run.document.decay
    if decay is None or decay.ridge is None:
        return
    across = math.radians(decay.ridge.angle)
    normal = np.array([math.cos(across), math.sin(across)])
    place = float(normal @ np.array(lowest))
    at = decay.product.optimum.get(width) if decay.product and decay.ridge.product_only else None
    if at is not None and at.value is not None:
        # the product counts octaves along (1, 1) when decay is coupled, and the normal has length 1
        length = math.sqrt(2) if run.document.decay_convention == "lr_coupled" else 1.0
        place = math.log2(at.value) / length
    along, middle = np.array([-normal[1], normal[0]]), place * normal
    ends = np.array([middle - 60 * along, middle + 60 * along])
    axes.plot(ends[:, 0], ends[:, 1], color=BLACK, linewidth=3.6)
    axes.plot(ends[:, 0], ends[:, 1], linestyle=(0, (4, 3)), color=WHITE, linewidth=1.6)
