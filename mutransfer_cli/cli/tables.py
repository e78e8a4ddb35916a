"""Tables for people: the fit with its bowls, and the price of a sweep."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from mutransfer_cli.files.exponents import Exponents, Optimum
    from mutransfer_cli.files.records import TrialRecord
    from mutransfer_cli.sweep.price import WidthPrice

BARS = " ▁▂▃▄▅▆▇█"
WIDE = 110  # columns where there is no terminal
FULL_BAR = 0.25  # nats above the best of the width


def console(to_stderr: bool) -> Console:
    """Bound to the stream at the time of the call; of a fixed width when it is no terminal."""
    stream = sys.stderr if to_stderr else sys.stdout
    return Console(file=stream, highlight=False, width=None if stream.isatty() else WIDE)


def print_fit(document: Exponents, trials: Iterable[TrialRecord]) -> None:
    """The bowls, the optima and the exponent."""
    out = console(to_stderr=True)
    axis = document.axes.lr
    out.print(_bowls(axis.optimum, trials))
    out.print(_optima(axis.optimum))
    if axis.exponent is None:
        out.print(f"exponent of lr: insufficient. {axis.sentence}")
        return
    out.print(
        f"exponent of lr: {axis.exponent.value:+.3f}  {axis.exponent.level * 100:g} % interval "
        f"{axis.exponent.low:+.3f} to "
        f"{axis.exponent.high:+.3f}  (the rule expects {axis.expected_exponent:g}; "
        f"{document.protocol.parameterization.name})"
    )


def _bowls(optimum: Mapping[int, Optimum], trials: Iterable[TrialRecord]) -> Table:
    """Eval loss above the best of its width, as a number and a bar; x is a diverged trial."""
    cells: dict[int, dict[float, list[float | None]]] = {}
    for trial in trials:
        if trial.status != "failed":
            cells.setdefault(trial.width, {}).setdefault(trial.lr, []).append(trial.eval_loss)
    rates = sorted({lr for row in cells.values() for lr in row})
    table = Table(title="eval loss above the best of its width (nats)", box=None)
    table.add_column("width", justify="right")
    for lr in rates:
        table.add_column(power_of_two(lr), justify="right")
    for width in sorted(optimum):
        means = {lr: _mean(losses) for lr, losses in cells[width].items()}
        best = min((loss for loss in means.values() if loss is not None), default=0.0)
        row = [_bar(means[lr], best) if lr in means else "" for lr in rates]
        table.add_row(str(width), *row)
    return table


def _mean(losses: Sequence[float | None]) -> float | None:
    finite = [loss for loss in losses if loss is not None]
    return sum(finite) / len(finite) if len(finite) == len(losses) else None


def _bar(loss: float | None, best: float) -> str:
    if loss is None:
        return "x"
    excess = loss - best
    bar = BARS[min(len(BARS) - 1, round(excess / FULL_BAR * (len(BARS) - 1)))]
    return f"{excess:.3f} {bar}" if excess else "best  "


def _optima(optimum: Mapping[int, Optimum]) -> Table:
    table = Table(title="optimal lr by width", box=None)
    for column in ("width", "optimum", "95 % interval", "curvature (nats/octave²)", "status"):
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
