"""Training losses step by step: all trials, a picture a width."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mutransfer_cli.fit.arrays import Array
from mutransfer_cli.report.html import left_out, power, section
from mutransfer_cli.report.run import Run
from mutransfer_cli.report.svg import INK, Look, legend_below, picture, scale
from mutransfer_cli.spec.measurements import CurveRecord
from mutransfer_cli.spec.records import TrialRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes


KEY, TITLE = "curves", "Training curves"
PLACES, LEAST_PLACES = 40_000, 12  # points of the whole page, and of one curve
MOST_PLACES = 60
SMOOTHED = 0.1  # of a curve's points


def curves(run: Run) -> str:
    if not run.curves:
        return left_out(KEY, TITLE, "Left out: no curves.jsonl lies beside the records.")
    trials = {trial.trial: trial for trial in run.records.trials}
    pairs = [(trials[curve.trial], curve) for curve in run.curves]
    rates = sorted({trial.lr for trial in trials.values()})
    places = min(MOST_PLACES, max(LEAST_PLACES, PLACES // len(pairs)))
    widths = sorted({trial.width for trial, _ in pairs})
    lines = [(trial, *points(curve, places)) for trial, curve in pairs]
    whole = [y for trial, _, y in lines if trial.status == "ok" and len(y)]
    view = _view(whole or [y for _, _, y in lines if len(y)])
    drawn = [
        _width(width, [line for line in lines if line[0].width == width], rates, view, run.unit)
        for width in widths
    ]
    missing = len(trials) - len(pairs)
    note = (
        "Training loss of every trial, as a running mean over a tenth of its points; colour: "
        "learning rate; thick: the least eval loss of the width; x: where a trial diverged. All "
        "widths have the same axis of losses; what is higher leaves at the top."
    ) + (f" {missing} trials have no curve." if missing else "")
    return section(KEY, TITLE, note, *drawn)


def _width(
    width: int,
    lines: Sequence[tuple[TrialRecord, Array, Array]],
    rates: Sequence[float],
    view: tuple[float, float],
    unit: str,
) -> str:
    lost = [trial for trial, *_ in lines if trial.status == "diverged"]
    ended = [trial for trial, *_ in lines if trial.eval_loss is not None]
    best = min(ended, key=lambda trial: trial.eval_loss or math.inf, default=None)
    bottom, top = view

    def draw(axes: Axes) -> None:
        for trial, x, y in lines:
            index = rates.index(trial.lr)
            look: Look = {"color": scale(index, len(rates)), "linewidth": 1.0, "alpha": 0.9}
            if trial is best:
                look = {"color": INK, "linewidth": 2.4, "zorder": 5}
            axes.plot(x, np.minimum(y, 3 * top - 2 * bottom), **look)
            if trial.status == "diverged":
                at = y[-1] if len(y) and y[-1] < top else top - 0.03 * (top - bottom)
                look = {"color": scale(index, len(rates)), "clip_on": False, "zorder": 6}
                axes.plot([trial.diverged_at or 0], [at], "x", markersize=8, mew=2.2, **look)
        for rate in rates:
            axes.plot([], [], color=scale(rates.index(rate), len(rates)), label=power(rate))
        axes.set_ylim(bottom, top)
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel("step")
        axes.set_ylabel(f"train loss ({unit})")
        legend_below(axes, "lr", most=8)

    words = f"{len(lines)} trials, {len(lost)} diverged"
    if lost:
        words += " (lr " + ", ".join(map(power, sorted({trial.lr for trial in lost}))) + ")"
    if best is not None:
        words += f". Least eval loss {best.eval_loss:.4g} at lr {power(best.lr)}"
    title = f"Training curves at width {width}"
    return picture(f"curves-{width}", title, words + ".", words + ".", draw)


def points(curve: CurveRecord, places: int) -> tuple[Array, Array]:
    """Steps and smoothed losses, up to the first that is not finite, at so many places at most."""
    y = np.array([math.nan if loss is None else loss for loss in curve.train_loss])
    broken = np.flatnonzero(~np.isfinite(y))
    count = int(broken[0]) if broken.size else len(y)
    if count == 0:
        return np.array([]), np.array([])
    x, y = np.array(curve.step[:count], dtype=float), y[:count]
    window = max(1, round(SMOOTHED * len(curve.step)))
    total = np.concatenate([[0.0], np.cumsum(y)])
    ends = np.arange(1, count + 1)
    starts = np.maximum(ends - window, 0)
    smooth = (total[ends] - total[starts]) / (ends - starts)
    kept = np.unique(np.linspace(0, count - 1, min(count, places)).round().astype(int))
    return x[kept], smooth[kept]


def _view(lines: Sequence[Array]) -> tuple[float, float]:
    """From the lowest loss to the highest after a fifth of the run: the start says little."""
    if not lines:
        return 0.0, 1.0
    bottom = min(float(y.min()) for y in lines)
    top = float(max(y[len(y) // 5] for y in lines))
    return bottom - 0.04 * (top - bottom) - 1e-9, top + 0.04 * (top - bottom) + 1e-9
