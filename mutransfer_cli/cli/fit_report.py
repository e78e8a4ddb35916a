"""The fit for people: the answer, exponents and optima, bowls, and what two axes share."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from mutransfer_cli.cli.console import WIDE, line_of, note, tabulate, warn
from mutransfer_cli.rules.plan import AXES
from mutransfer_cli.words import (
    as_sentence,
    digits,
    loss,
    percent,
    power,
    rate,
    rate_and_power,
    signed,
    words_of_status,
)

if TYPE_CHECKING:
    import pandas as pd

    from mutransfer_cli.fit.exponents import Axis, Decay, Exponents, Interval
    from mutransfer_cli.fit.optimum import Optimum
    from mutransfer_cli.rules.plan import AxisName


BARS = " ▁▂▃▄▅▆▇█"
FULL_BAR = 0.25  # nats above the best of the width
CELL = 10  # characters of a column of bowls
NAMED_GROUPS = 5  # groups named in a warning
NAMED_SENTENCES = 3  # sentences shown of one kind of warning about groups


def print_fit(document: Exponents, trials: pd.DataFrame, further: Sequence[str] = ()) -> None:
    """Print whether each axis transfers, its exponent, optima and bowls, and warnings, on stderr.

    Args:
        trials: one row per trial: width, the axes, and eval_loss (NaN if it diverged) where the
            optima were fitted.
        further: warnings about the protocol.
    """
    from mutransfer_cli.check.answer import headline, questions, runs_per_width

    note(as_sentence(headline(questions(document), runs_per_width(document))), "", bold=True)
    if document.protocol is None:
        note("no protocol says what the rule expects, so nothing is judged (--protocol)")
    note("")
    told = set[str]()
    for name, axis in document.axes.items():
        _print_exponent(name, axis, document, told)
    for name, axis in document.axes.items():
        tabulate(_optima(name, axis.optimum), f"optimal {name} by width")
    for name in document.axes if "eval_loss" in trials else ():
        title: str | None = _title_of_bowls(name, document)
        for rows in _bowls(name, best_of_others(name, trials)):
            tabulate(rows, title)
            title = None
    if document.decay is not None:
        _print_decay(document.decay)
    of_axes = [sentence for axis in document.axes.values() for sentence in axis.warnings.values()]
    _print_warnings(dict.fromkeys([*of_axes, *further]))


def _print_warnings(sentences: Iterable[str]) -> None:
    for at, sentence in enumerate(sentences):
        if at == 0:
            note("")
        warn(sentence)


def print_groups(document: Exponents, by: str, further: Sequence[str] = ()) -> None:
    """Print one line per group and axis, and every warning with the groups that have it."""
    warned: dict[str, dict[str, dict[str, None]]] = {}  # groups by sentence by code, in order
    for group, fits in document.groups.items():
        for name, axis in fits.axes.items():
            note(f"{by} {group}: {_exponent(name, axis, document)}")
            for code, sentence in axis.warnings.items():
                warned.setdefault(code, {}).setdefault(sentence, {})[group] = None
    for code, sentences in warned.items():
        common = sorted(sentences, key=lambda sentence: -len(sentences[sentence]))
        for sentence in common[:NAMED_SENTENCES]:
            warn(f"{by} {_some(list(sentences[sentence]))}: {sentence}")
        rest = {group for sentence in common[NAMED_SENTENCES:] for group in sentences[sentence]}
        if rest:
            groups = f"{len(rest)} more groups are" if len(rest) > 1 else "1 more group is"
            warn(f"{groups} alike, each with a sentence of its own in the output under {code}")
    _print_warnings(further)


def _some(groups: Sequence[str]) -> str:
    """The first groups by name, and how many more there are."""
    named, more = ", ".join(groups[:NAMED_GROUPS]), len(groups) - NAMED_GROUPS
    return f"{named} and {more} more" if more > 0 else named


def best_of_others(axis: AxisName, trials: pd.DataFrame) -> pd.DataFrame:
    """Keep the best combination of the other axes at each width and value of this axis."""
    from mutransfer_cli.fit.table import profile

    others = [name for name in AXES if name in trials and name != axis]
    return profile(trials, [axis], others, "eval_loss")


def _print_exponent(name: str, axis: Axis, document: Exponents, told: set[str]) -> None:
    """Print an exponent with what is behind it, or why there is none.

    Args:
        told: reasons that were given already.
    """
    if axis.exponent is not None:
        note(_exponent(name, axis, document))
        for sentence in _behind(name, axis):
            note(f"  {sentence}", "    ")
    elif axis.sentence not in told:
        note(as_sentence(axis.sentence))
        told.add(axis.sentence)


def _exponent(name: str, axis: Axis, document: Exponents) -> str:
    if axis.exponent is None:
        return f"no exponent of {name}: {axis.sentence}"
    found = axis.exponent
    shown = (
        f"exponent of {name}: {signed(found.value)}  {percent(found.level)} interval "
        f"{signed(found.low)} to {signed(found.high)}"
    )
    if document.protocol is None:
        return shown
    expected = "nothing" if axis.expected_exponent is None else f"{axis.expected_exponent:g}"
    return f"{shown}  (the rule expects {expected}; {document.protocol.parameterization.name})"


def _behind(name: str, axis: Axis) -> Iterator[str]:
    """Say what an exponent means, and the parts of its interval."""
    found, law, measured = axis.exponent, axis.law_interval, axis.measurement_interval
    assert found is not None
    assert law is not None
    assert measured is not None
    narrowest, widest = min(axis.usable), max(axis.usable)
    value, low, high = ((widest / narrowest) ** e for e in (found.value, found.low, found.high))
    yield (
        f"from width {narrowest} to {widest} the best {name} changes by a factor of {value:.2f} "
        f"({low:.2f} to {high:.2f})"
    )
    yield (
        f"behind the interval: scatter of the optima about the line ±{_half(law):.3f}, "
        f"noise of the losses ±{_half(measured):.3f}"
    )
    others = []
    if axis.without_largest is not None:
        others.append(f"{signed(axis.without_largest)} without the largest width")
    if axis.form_spread is not None:
        others.append(f"{signed(law.value - axis.form_spread)} from the middle of each bowl alone")
    if others:
        yield f"other exponents: {', '.join(others)}"
    if axis.form_interval is not None:
        low, high = axis.form_interval
        yield (
            f"over resampled losses the last one differs by {signed(low)} to {signed(high)} "
            "from the exponent"
        )


def _half(interval: Interval) -> float:
    return (interval.high - interval.low) / 2


def _print_decay(decay: Decay) -> None:
    product, ridge = decay.product, decay.ridge
    note("")
    if ridge is not None and product is not None and not ridge.product_only:
        x = ridge.exponent
        across = f"{signed(x.value)} ({signed(x.low)} to {signed(x.high)})"
        note(f"{product.sentence}; across it the exponent is {across}")
    else:
        if ridge is not None:
            note(
                f"lr and weight_decay lie on a ridge ({ridge.angle:.1f} ± {ridge.angle_error:.1f} "
                "degrees): only the decay per step is identified"
            )
        if product is not None and product.status == "ok":
            note(product.sentence)
    for width, best in decay.without_decay.items():
        against = "" if best.excess is None else f", {signed(best.excess)} against the best with it"
        note(
            f"width {width} without weight decay: best lr {rate_and_power(best.lr)}, loss "
            f"{loss(best.loss)}{against}"
        )
    if decay.horizon is not None:
        note(
            f"horizon at width {decay.horizon.width}: {digits(decay.horizon.value, 2)} "
            "(sum of lr * weight_decay over the steps)"
        )


def _title_of_bowls(axis: AxisName, document: Exponents) -> str:
    metric = document.metric
    unit = f" ({document.loss_unit})" if metric == "eval_loss" else ""
    return f"{metric.replace('_', ' ')} above the best of its width{unit}, by {axis}"


def _bowls(axis: AxisName, trials: pd.DataFrame) -> Iterator[list[list[str]]]:
    """Rows of losses above the best of their width, at the best other axes; x: diverged.

    Values that do not fit side by side follow in further tables.
    """
    losses = trials["eval_loss"].fillna(math.inf)
    cells = losses.groupby([trials["width"], trials[axis]]).mean()
    values = sorted(trials[axis].unique())
    by_width = {width: cells[width].to_dict() for width in sorted(trials["width"].unique())}
    line = line_of(sys.stderr) or WIDE
    tables = math.ceil(len(values) / max(1, line // CELL - 1))  # the first column is the width
    size = math.ceil(len(values) / tables)
    for start in range(0, len(values), size):
        shown = values[start : start + size]
        rows = [["width", *map(rate, shown)], ["", *map(power, shown)]]
        for width, row in by_width.items():
            best = min(row.values())
            rows.append([str(width), *(_cell(row.get(value), best) for value in shown)])
        yield rows


def _cell(loss: float | None, best: float) -> str:
    """A loss above the best of its width, with its bar; empty where there is none."""
    return "" if loss is None else f"{_excess(loss, best):>5} {_bar(loss, best)}"


def _excess(loss: float, best: float) -> str:
    return "" if math.isinf(loss) else f"{loss - best:.3f}" if loss > best else "best"


def _bar(loss: float, best: float) -> str:
    """A bar that grows with the loss, x for a diverged cell."""
    if math.isinf(loss):
        return "x"
    return BARS[min(len(BARS) - 1, round((loss - best) / FULL_BAR * (len(BARS) - 1)))]


def _optima(axis: AxisName, optimum: Mapping[int, Optimum]) -> list[list[str]]:
    """Rows of optima with their intervals; in place of that why an optimum is not used."""
    rows = [["width", f"best {axis}", "95% interval"]]
    for width, at in sorted(optimum.items()):
        interval = f"{rate(at.low)} to {rate(at.high)}"
        if at.status != "ok":
            interval = words_of_status(at.status, at.side)
        rows.append([str(width), rate_and_power(at.value) or "-", interval])
    if any(at.loss is not None for at in optimum.values()):
        losses = [loss(at.loss) for _, at in sorted(optimum.items())]
        rows = [[*row, text] for row, text in zip(rows, ["loss", *losses], strict=True)]
    return rows
