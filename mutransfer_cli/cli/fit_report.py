"""The fit for people: bowls, optima, exponents, and what learning rate and weight decay share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from mutransfer_cli.cli.console import console, right_aligned
from mutransfer_cli.rules.plan import AXES
from mutransfer_cli.words import power

if TYPE_CHECKING:
    import pandas as pd

    from mutransfer_cli.fit.exponents import Axis, Decay, Exponents
    from mutransfer_cli.fit.optimum import Optimum
    from mutransfer_cli.rules.plan import AxisName


BARS = " ▁▂▃▄▅▆▇█"
FULL_BAR = 0.25  # nats above the best of the width
CELL = 10  # characters of a column
NAMED_GROUPS = 5  # groups named in a warning
NAMED_SENTENCES = 3  # sentences shown of one kind of warning about groups


def print_fit(document: Exponents, trials: pd.DataFrame) -> None:
    """Print the bowls, the optima and the exponent of each axis on stderr.

    Args:
        trials: one row per trial: width, the axes, and eval_loss (NaN if it diverged) where the
            optima were fitted.
    """
    out, shown = console(to_stderr=True), set[str]()
    for name, axis in document.axes.items():
        if "eval_loss" in trials:
            for part in _bowls(name, best_of_others(name, trials), document, out.width):
                out.print(part)
        out.print(_optima(name, axis.optimum, document.loss_unit))
        if axis.status != "ridge":
            _print_exponent(out, name, axis, document)
        for warning in axis.warnings.values():
            if warning not in shown:
                out.print(f"warning: {warning}")
            shown.add(warning)
    if document.decay is not None:
        _print_decay(out, document.decay)


def print_groups(document: Exponents, by: str) -> None:
    """Print one line per group and axis, and every warning with the groups that have it."""
    out = console(to_stderr=True)
    warned: dict[str, dict[str, dict[str, None]]] = {}  # groups by sentence by code, in order
    for group, fits in document.groups.items():
        for name, axis in fits.axes.items():
            out.print(f"{by} {group}: {_exponent(name, axis, document)}")
            for code, sentence in axis.warnings.items():
                warned.setdefault(code, {}).setdefault(sentence, {})[group] = None
    for code, sentences in warned.items():
        common = sorted(sentences, key=lambda sentence: -len(sentences[sentence]))
        for sentence in common[:NAMED_SENTENCES]:
            out.print(f"warning ({by} {_some(list(sentences[sentence]))}): {sentence}")
        rest = {group for sentence in common[NAMED_SENTENCES:] for group in sentences[sentence]}
        if rest:
            out.print(
                f"warning: {code} in {len(rest)} more group{'s' if len(rest) > 1 else ''}, each "
                "with a sentence of its own in the output"
            )


def _some(groups: Sequence[str]) -> str:
    """The first groups by name, and how many more there are."""
    named, more = ", ".join(groups[:NAMED_GROUPS]), len(groups) - NAMED_GROUPS
    return f"{named} and {more} more" if more > 0 else named


def best_of_others(axis: AxisName, trials: pd.DataFrame) -> pd.DataFrame:
    """Keep the best combination of the other axes at each width and value of this axis."""
    from mutransfer_cli.fit.table import profile

    others = [name for name in AXES if name in trials and name != axis]
    return profile(trials, [axis], others, "eval_loss")


def _print_exponent(out: Console, name: str, axis: Axis, document: Exponents) -> None:
    out.print(_exponent(name, axis, document))
    if axis.exponent is not None:
        out.print(_apart(axis))


def _exponent(name: str, axis: Axis, document: Exponents) -> str:
    if axis.exponent is None:
        return f"exponent of {name}: {axis.status}. {axis.sentence}"
    shown = (
        f"exponent of {name}: {axis.exponent.value:+.3f}  {axis.exponent.level * 100:g}% "
        f"interval {axis.exponent.low:+.3f} to {axis.exponent.high:+.3f}"
    )
    if document.protocol is None:
        return shown
    expected = "nothing" if axis.expected_exponent is None else f"{axis.expected_exponent:g}"
    return f"{shown}  (the rule expects {expected}; {document.protocol.parameterization.name})"


def _apart(axis: Axis) -> str:
    """The parts of the interval, in words."""
    law, measured, line = axis.law_interval, axis.measurement_interval, axis.line
    assert law is not None
    assert measured is not None
    assert line is not None
    shown = (
        f"  scatter between widths +-{(law.high - law.low) / 2:.3f} (sd {line.scatter:.2f} octave)"
        f", measurement +-{(measured.high - measured.low) / 2:.3f}"
    )
    if axis.form_spread is not None:
        shown += f"; narrower {law.value - axis.form_spread:+.3f}"
    if axis.form_interval is not None:
        low, high = axis.form_interval
        shown += f" (they differ by {low:+.3f} to {high:+.3f} over resampled losses)"
    if axis.without_largest is not None:
        shown += f"; largest left out {axis.without_largest:+.3f}"
    return shown


def _print_decay(out: Console, decay: Decay) -> None:
    product, ridge = decay.product, decay.ridge
    if ridge is not None and product is not None and not ridge.product_only:
        x = ridge.exponent
        across = f"{x.value:+.3f} ({x.low:+.3f} to {x.high:+.3f})"
        out.print(f"{product.sentence}; across it the exponent is {across}")
    else:
        if ridge is not None:
            out.print(
                f"lr and weight_decay lie on a ridge ({ridge.angle:.1f} +- "
                f"{ridge.angle_error:.1f} degrees): only the decay per step is identified"
            )
        if product is not None and product.status == "ok":
            out.print(product.sentence)
    for width, best in decay.without_decay.items():
        against = "" if best.excess is None else f", {best.excess:+.3f} against the best with it"
        out.print(
            f"width {width} without weight decay: best lr {power(best.lr)}, loss "
            f"{best.loss:.3f}{against}"
        )
    if decay.horizon is not None:
        out.print(
            f"horizon at width {decay.horizon.width}: {decay.horizon.value:.2g} "
            "(sum of lr * weight_decay over the steps)"
        )


def _bowls(axis: AxisName, trials: pd.DataFrame, document: Exponents, wide: int) -> Iterator[Table]:
    """Tabulate losses above the best of their width, at the best other axes; x: diverged.

    Values that do not fit side by side follow in further tables.

    Args:
        wide: characters in a line.
    """
    losses = trials["eval_loss"].fillna(math.inf)
    cells = losses.groupby([trials["width"], trials[axis]]).mean()
    values = sorted(trials[axis].unique())
    rows = {width: cells[width].to_dict() for width in sorted(trials["width"].unique())}
    metric = document.metric
    unit = f" ({document.loss_unit})" if metric == "eval_loss" else ""
    title: str | None = f"{metric.replace('_', ' ')} above the best of its width{unit}"
    tables = math.ceil(len(values) / max(1, wide // CELL - 1))  # the first column is the width
    size = math.ceil(len(values) / tables)
    for start in range(0, len(values), size):
        shown = values[start : start + size]
        table = right_aligned(["width", *map(power, shown)], title)
        for width, row in rows.items():
            table.add_row(
                str(width), *(_cell(row.get(value), min(row.values())) for value in shown)
            )
        yield table
        title = None


def _cell(loss: float | None, best: float) -> str:
    """A loss above the best of its width, with its bar; empty where there is none."""
    return "" if loss is None else f"{_excess(loss, best)} {_bar(loss, best)}".strip()


def _excess(loss: float, best: float) -> str:
    return "" if math.isinf(loss) else f"{loss - best:.3f}" if loss > best else "best"


def _bar(loss: float, best: float) -> str:
    """A bar that grows with the loss, x for a diverged cell."""
    if math.isinf(loss):
        return "x"
    return BARS[min(len(BARS) - 1, round((loss - best) / FULL_BAR * (len(BARS) - 1)))]


def _optima(axis: AxisName, optimum: Mapping[int, Optimum], unit: str) -> Table:
    numbers = ("optimum", "95% interval", f"{unit}/octave²", "tilt/octave")
    table = right_aligned(["width", *numbers, "status"], f"optimal {axis} by width")
    for width, at_width in sorted(optimum.items()):
        interval = ""
        if at_width.low is not None and at_width.high is not None:
            interval = f"{power(at_width.low)} to {power(at_width.high)}"
        table.add_row(
            str(width),
            power(at_width.value) if at_width.value is not None else "-",
            interval,
            f"{at_width.curvature:.4f}" if at_width.curvature is not None else "-",
            f"{at_width.tilt:+.2f}" if at_width.tilt is not None else "-",
            at_width.status + (f" ({at_width.side})" if at_width.side else ""),
        )
    return table
