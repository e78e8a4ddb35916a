"""Tables for people: the fit with its bowls, and the price of a sweep."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from mutransfer_cli.rules.plan import AXES

if TYPE_CHECKING:
    import pandas as pd

    from mutransfer_cli.files.exponents import Axis, Exponents, Optimum
    from mutransfer_cli.rules.plan import AxisName
    from mutransfer_cli.sweep.price import WidthPrice

BARS = " ▁▂▃▄▅▆▇█"
WIDE = 110  # columns where there is no terminal
FULL_BAR = 0.25  # nats above the best of the width
MOST_NUMBERS = 13  # columns of a table of bowls


def console(to_stderr: bool) -> Console:
    """Bound to the stream at the time of the call; of a fixed width when it is no terminal."""
    stream = sys.stderr if to_stderr else sys.stdout
    return Console(file=stream, highlight=False, width=None if stream.isatty() else WIDE)


def print_fit(document: Exponents, trials: pd.DataFrame) -> None:
    """The bowls, the optima and the exponent of each axis.

    Args:
        trials: one row a trial: width, the axes, eval_loss (NaN for a diverged one).
    """
    out = console(to_stderr=True)
    for name, axis in document.axes.items():
        out.print(_bowls(name, trials))
        out.print(_optima(name, axis.optimum))
        out.print(_exponent(name, axis, document))
        if axis.exponent is not None:
            out.print(_apart(axis))
        for warning in axis.warnings.values():
            out.print(f"warning: {warning}")


def print_groups(document: Exponents, by: str) -> None:
    """One line a group and axis."""
    out = console(to_stderr=True)
    for group, fits in document.groups.items():
        for name, axis in fits.axes.items():
            out.print(f"{by} {group}: {_exponent(name, axis, document)}")


def _exponent(name: AxisName, axis: Axis, document: Exponents) -> str:
    if axis.exponent is None:
        return f"exponent of {name}: insufficient. {axis.sentence}"
    shown = (
        f"exponent of {name}: {axis.exponent.value:+.3f}  {axis.exponent.level * 100:g} % "
        f"interval {axis.exponent.low:+.3f} to {axis.exponent.high:+.3f}"
    )
    if document.protocol is None:
        return shown
    expected = "nothing" if axis.expected_exponent is None else f"{axis.expected_exponent:g}"
    return f"{shown}  (the rule expects {expected}; {document.protocol.parameterization.name})"


def _apart(axis: Axis) -> str:
    """What stands behind the interval, number by number."""
    law, measured, line = axis.law_interval, axis.measurement_interval, axis.line
    assert law is not None
    assert measured is not None
    assert line is not None
    shorter = axis.without_largest
    return (
        f"  scatter between widths +-{(law.high - law.low) / 2:.3f} (sd {line.scatter:.2f} octave)"
        f", measurement +-{(measured.high - measured.low) / 2:.3f}; parabolas "
        f"{law.value - (axis.form_spread or 0):+.3f}"
        + (f"; largest left out {shorter:+.3f}" if shorter is not None else "")
    )


def _bowls(axis: AxisName, trials: pd.DataFrame) -> Table:
    """Eval loss above the best of its width, at the best of the other axes; x is diverged."""
    losses = trials["eval_loss"].fillna(math.inf)
    varied = [name for name in (*AXES, "weight_decay") if name in trials]
    means = losses.groupby([trials[name] for name in ("width", *varied)]).mean()
    cells = means.groupby(["width", axis]).min()
    values = sorted(trials[axis].unique())
    rows = {width: cells[width].to_dict() for width in sorted(trials["width"].unique())}
    title = "eval loss above the best of its width"
    if len(values) > MOST_NUMBERS:
        return _bars(
            f"{title} ({power_of_two(values[0])} to {power_of_two(values[-1])})", values, rows
        )
    table = Table(title=f"{title} (nats)", box=None)
    table.add_column("width", justify="right")
    for value in values:
        table.add_column(power_of_two(value), justify="right")
    for width, row in rows.items():
        best = min(row.values())
        shown = [
            f"{number} {_bar(row[value], best)}".strip() if value in row else ""
            for value in values
            for number in [_excess(row.get(value, math.inf), best)]
        ]
        table.add_row(str(width), *shown)
    return table


def _bars(title: str, values: list[float], rows: dict[int, dict[float, float]]) -> Table:
    """A bar for each value where numbers would not fit."""
    table = Table(title=title, box=None)
    table.add_column("width", justify="right")
    table.add_column("bowl", no_wrap=True)
    for width, row in rows.items():
        best = min(row.values())
        bars = "".join(_bar(row[value], best) if value in row else "?" for value in values)
        table.add_row(str(width), bars)
    return table


def _excess(loss: float, best: float) -> str:
    return "" if math.isinf(loss) else f"{loss - best:.3f}" if loss > best else "best"


def _bar(loss: float, best: float) -> str:
    """x for a diverged cell."""
    if math.isinf(loss):
        return "x"
    return BARS[min(len(BARS) - 1, round((loss - best) / FULL_BAR * (len(BARS) - 1)))]


def _optima(axis: AxisName, optimum: Mapping[int, Optimum]) -> Table:
    table = Table(title=f"optimal {axis} by width", box=None)
    for column in ("width", "optimum", "95 % interval", "nats/octave²", "tilt/octave", "status"):
        table.add_column(column, justify="right")
    for width, at_width in sorted(optimum.items()):
        interval = ""
        if at_width.low is not None and at_width.high is not None:
            interval = f"{power_of_two(at_width.low)} to {power_of_two(at_width.high)}"
        table.add_row(
            str(width),
            power_of_two(at_width.value) if at_width.value is not None else "-",
            interval,
            f"{at_width.curvature:.4f}" if at_width.curvature is not None else "-",
            f"{at_width.tilt:+.2f}" if at_width.tilt is not None else "-",
            at_width.status + (f" ({at_width.side})" if at_width.side else ""),
        )
    return table


def power_of_two(value: float) -> str:
    """0.0078125 as 2^-7, 0.01 as 2^-6.64."""
    return f"2^{round(math.log2(value), 2):g}"


def print_prices(prices: Iterable[WidthPrice], device: str) -> None:
    """The dry run: what each width will cost."""
    table = Table(title=f"what the sweep will cost ({device})", box=None)
    for column in (
        "width",
        "trials",
        "to run",
        "parameters",
        "trials a group",
        "FLOPs",
        "memory",
        "time",
    ):
        table.add_column(column, justify="right")
    total_flops, total_seconds, extrapolated = 0.0, 0.0, False
    for price in prices:
        total_flops, total_seconds = total_flops + price.flops, total_seconds + price.seconds
        extrapolated |= not price.measured
        table.add_row(
            str(price.width),
            str(price.trials),
            str(price.pending),
            f"{price.parameters:,}",
            str(price.group_size),
            f"{price.flops:.2e}",
            f"{price.memory / 1e9:.2f} GB",
            duration(price.seconds) + ("" if price.measured else " *"),
        )
    table.add_row("all", "", "", "", "", f"{total_flops:.2e}", "", duration(total_seconds))
    out = console(to_stderr=False)
    out.print(table)
    out.print("time: a few steps of each width timed on this machine, without compilation")
    if extrapolated:
        out.print("* extrapolated from the throughput of a smaller width")


def duration(seconds: float) -> str:
    """3 s, 2 min 05 s, 4 h 10 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
