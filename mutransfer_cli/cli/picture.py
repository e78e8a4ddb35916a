"""The fit as pictures for a terminal: the bowls, and the optima across widths."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

from mutransfer_cli.cli.console import power_of_two

if TYPE_CHECKING:
    import pandas as pd

    from mutransfer_cli.fit.exponents import Line, Optimum


ROWS = 18
BESIDE, AXIS = 5, 9  # rows for title, frame, ticks and label; columns for frame and ticks
COLOURS = ("red", "orange", "green", "cyan", "blue", "magenta")
FAR = 0.5  # nats above the best of a width
LEAST_NATS, LEAST_OCTAVES = 0.01, 1.0  # of a view


def draw_bowls(
    axis: str, trials: pd.DataFrame, optimum: Mapping[int, Optimum], columns: int, colour: bool
) -> str:
    """Loss against the hyperparameter: a letter a width, its capital at the optimum.

    The view ends where every width shows 0.5 nats above its best, or its highest loss if that is
    less. Towards what is higher or diverged (NaN, infinite) a line leaves at the top. Trials of one
    width and value are averaged.
    """
    losses = trials["eval_loss"].fillna(math.inf)
    cells = losses.groupby([trials["width"], trials[axis].map(math.log2)]).mean()
    bowls = {width: cells[width].to_dict() for width in sorted(trials["width"].unique())}
    finite = {width: list(filter(math.isfinite, row.values())) for width, row in bowls.items()}
    seen = [row for row in finite.values() if row]
    if not seen:
        return "no picture: every trial diverged"
    found = _found(optimum)
    styles = {w: (ascii_lowercase[i % 26], COLOURS[i % len(COLOURS)]) for i, w in enumerate(bowls)}
    ends = [end for row in seen for end in (min(row), min(max(row), min(row) + FAR))]
    bottom, top = _view([*ends, *(at[-1] for at in found.values())], LEAST_NATS)
    left, right = _view([x for row in bowls.values() for x in row], LEAST_OCTAVES)
    legend = {width: f"{width}" if row else f"{width} diverged" for width, row in finite.items()}
    room = max(map(len, legend.values())) + 4  # columns
    rest = max(columns - room - AXIS, 1)
    start = left - (right - left) * room / rest
    label = "capitals: optima; bars: 95 % intervals"

    figure = _figure(columns, max(ROWS, len(bowls) + BESIDE), f"loss against {axis}", label)
    figure.xlim(start, right)
    figure.ylim(bottom, top)
    x_ticks, y_ticks = _ticks(left, right, rest // 8), _ticks(bottom, top, ROWS // 3)
    figure.xticks(x_ticks, [power_of_two(2.0**x) for x in x_ticks])
    figure.yticks(y_ticks, [f"{y:g}" for y in y_ticks])
    for i, (width, row) in enumerate(bowls.items()):
        letter, hue = styles[width]
        y = [min(loss, 2 * top - bottom) for loss in row.values()]
        figure.plot([*row], y, marker="braille" if len(row) > 1 else letter, color=hue)
        figure.scatter([*row], y, marker=letter, color=hue)
        height = top - i * (top - bottom) / (max(ROWS - BESIDE, len(bowls)) - 1)
        figure.text(f"{letter} {legend[width]}", start, height, color=hue, alignment="left")
    for width, (low, _, high, loss) in found.items():
        figure.plot([low, high], [loss, loss], marker="━", color=styles[width][1])
    for width, (_, value, _, loss) in found.items():
        figure.scatter([value], [loss], marker=styles[width][0].upper(), color=styles[width][1])
    return _text(figure, colour)


def draw_optima(
    axis: str,
    optimum: Mapping[int, Optimum],
    line: Line | None,
    exponent: float | None,
    columns: int,
    colour: bool,
) -> str:
    """The optima against width, both on log2 scales, with their intervals and the fitted line."""
    found = _found(optimum)
    if not found:
        return f"no picture: no optimum of {axis}"
    ends = [math.log2(min(optimum)), math.log2(max(optimum))]
    fitted = []
    if line is not None and exponent is not None:
        fitted = [math.log2(line.value) + exponent * (x - math.log2(line.width)) for x in ends]
    left, right = _view(ends, LEAST_OCTAVES)
    view = _view([*fitted, *(y for at in found.values() for y in at[:3])], LEAST_OCTAVES)
    label = "bars: 95 % intervals" + ("; line: the fit" if fitted else "")

    figure = _figure(columns, ROWS, f"optimal {axis} against width", label)
    figure.xlim(left, right)
    figure.ylim(*view)
    named, ticks = [max(optimum)], _ticks(*view, ROWS // 3)
    for width in sorted(optimum, reverse=True):  # of labels that collide the library drops any
        if math.log2(named[-1] / width) * (columns - AXIS) / (right - left) > len(f"{width}") + 2:
            named.append(width)
    figure.xticks([math.log2(width) for width in named], named)
    figure.yticks(ticks, [power_of_two(2.0**y) for y in ticks])
    figure.plot(ends[: len(fitted)], fitted, marker="braille", color="gray")
    hues = {width: COLOURS[i % len(COLOURS)] for i, width in enumerate(sorted(optimum))}
    for width, (low, value, high, _) in found.items():
        x, hue = math.log2(width), hues[width]
        figure.plot([x, x], [low, high], marker="┃", color=hue)
        figure.scatter([x], [value], marker="●", color=hue)
    return _text(figure, colour)


def _found(optimum: Mapping[int, Optimum]) -> dict[int, tuple[float, float, float, float]]:
    """log2 of low, value and high, and the loss (NaN if not known), of each optimum that is ok."""
    return {
        width: (
            math.log2(at.low),
            math.log2(at.value),
            math.log2(at.high),
            math.nan if at.loss is None else at.loss,
        )
        for width, at in sorted(optimum.items())
        if at.status == "ok" and at.low and at.value and at.high
    }


def _figure(columns: int, rows: int, title: str, label: str) -> Any:
    """The library's one figure, emptied, of a size that the terminal does not limit."""
    import plotext

    plotext.clear_figure()
    plotext.theme("clear")
    plotext.limit_size(False, False)
    plotext.plot_size(columns, rows)
    plotext.title(title)
    plotext.xlabel(label)
    return plotext


def _text(figure: Any, colour: bool) -> str:
    text = figure.build() if colour else figure.uncolorize(figure.build())
    return re.sub(r" +(\x1b\[0m)?$", "", text, flags=re.MULTILINE).rstrip("\n")


def _view(values: Sequence[float], least: float) -> tuple[float, float]:
    """The range of values, at least so wide, with a margin."""
    middle, half = (min(values) + max(values)) / 2, (max(values) - min(values)) / 2
    half = 1.1 * max(half, least / 2)
    return middle - half, middle + half


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten."""
    least = (high - low) / max(most, 1)
    power = 10.0 ** math.floor(math.log10(least))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= least)
    return [step * k for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
