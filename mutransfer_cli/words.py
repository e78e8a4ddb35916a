"""Numbers and names as people read them, the same in terminals, logs, pages and figures."""

from __future__ import annotations

import math
from collections.abc import Iterable

from mutransfer_cli.rules.plan import AXES

WORDS = {
    "lr": "learning rate",
    "weight_decay": "weight decay",
    "lr * weight_decay": "product of the two",
}
# statuses of optima and of fits, as a clause
STATUSES = {
    "ok": "ok",
    "too_few_points": "too few values",
    "not_bracketed": "beyond the {side}est",
    "flat": "no difference",
    "unresolved": "lost in the noise",
    "multimodal": "two minima",
    "at_divergence": "where runs diverge",
    "insufficient": "too little evidence",
    "ridge": "a ridge",
}
RAISED = str.maketrans("-.0123456789", "⁻·⁰¹²³⁴⁵⁶⁷⁸⁹")


def words_of(axis: str) -> str:
    """The name of an axis, or of the product of two, in a sentence."""
    return WORDS.get(axis, f"factor {axis}")


def words_of_status(status: str, side: str | None = None) -> str:
    """The status of an optimum or of a fit: `not_bracketed` is beyond the highest, or lowest.

    Args:
        side: high or low, for the one status that has a side.
    """
    return STATUSES[status].format(side=side)


def listed(items: Iterable[str], joint: str = "and") -> str:
    """The items in a sentence: a, b and c."""
    *first, last = items
    return f"{', '.join(first)} {joint} {last}" if first else last


def as_sentence(text: str) -> str:
    """The clause with a full stop and a capital, unless it begins with the name of an axis."""
    first = text if text.split()[0] in AXES else text[0].upper() + text[1:]
    return f"{first}."


def digits(value: float | None, count: int) -> str:
    """The value to `count` significant digits, zeros included: 0.033 to three is 0.0330.

    None is empty, and zero is 0.
    """
    if value is None:
        return ""
    return "0" if value == 0 else f"{value:#.{count}g}".removesuffix(".")


def rate(value: float | None) -> str:
    """A learning rate, weight decay or factor, to three digits: 0.0330."""
    return digits(value, 3)


def loss(value: float | None) -> str:
    """A loss, to four digits: 2.630."""
    return digits(value, 4)


def rate_and_power(value: float | None) -> str:
    """A rate with its power of two: 0.0185 (2^-5.76)."""
    return f"{rate(value)} ({power(value)})" if value else rate(value)


def percent(share: float) -> str:
    """A share of one: 0.95 is 95%."""
    return f"{100 * share:g}%"


def signed(value: float | None, decimals: int = 3) -> str:
    """The value with its sign to `decimals` decimals, zero as +0.000; empty for None."""
    return "" if value is None else f"{round(value, decimals) + 0.0:+.{decimals}f}"


def with_sign(value: float) -> str:
    """The value with its sign to three digits: +0.00250."""
    return ("-" if value < 0 else "+") + (digits(abs(value), 3))


def power(value: float | None) -> str:
    """The value as a power of two: 0.0078125 is 2^-7. Empty for None."""
    if value is None:
        return ""
    return "0" if value == 0 else octaves(math.log2(value))


def octaves(log2: float) -> str:
    """A log2 as a power of two: -7 is 2^-7."""
    # adding 0.0 turns -0.0 into 0.0
    return f"2^{round(log2, 2) + 0.0:g}"


def raised(log2: float) -> str:
    """A log2 as a power of two in a figure: -5.76 is 2⁻⁵·⁷⁶."""
    return "2" + f"{round(log2, 2) + 0.0:g}".translate(RAISED)


def duration(seconds: float) -> str:
    """3 s, 2 min 05 s, 4 h 10 min."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def about(seconds: float) -> str:
    """A duration that is not known well, to one or two digits: 25 s, 1 min 20 s, 12 min, 3 days."""
    if seconds >= 48 * 3600:
        return f"{seconds / 86400:.0f} days"
    steps = ((20, 1), (57.5, 5), (595, 10), (3570, 60))
    step = next((step for below, step in steps if seconds < below), 600)
    rounded = max(step, step * round(seconds / step))
    return duration(rounded).removesuffix(" 00 s").removesuffix(" 00 min")


def roughly(seconds: float) -> str:
    """The same in at most seven characters: 80 s, 3 min, 14 h."""
    if seconds < 99.5:
        return f"{max(1.0, seconds):.0f} s"
    if seconds < 99.5 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"
