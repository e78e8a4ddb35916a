"""Numbers and names as the page writes them."""

from __future__ import annotations

import math

from mutransfer_cli.rules.plan import AXES

WORDS = {
    "lr": "learning rate",
    "weight_decay": "weight decay",
    "lr * weight_decay": "product of the two",
}


def words_of(axis: str) -> str:
    """The name of an axis, or of the product of two, in a sentence."""
    return WORDS.get(axis, f"factor {axis}")


def as_sentence(text: str) -> str:
    """The clause with a full stop and a capital, unless it begins with the name of an axis."""
    first = text if text.split()[0] in AXES else text[0].upper() + text[1:]
    return f"{first}."


def number(value: float | None, digits: int = 4) -> str:
    """The value to `digits` significant digits; empty for None."""
    return "" if value is None else f"{value:.{digits}g}"


def signed(value: float | None, digits: int = 3) -> str:
    """The value with its sign to `digits` decimals, zero as +0; empty for None."""
    return "" if value is None else f"{round(value, digits) + 0.0:+.{digits}f}"


def power(value: float | None) -> str:
    """The value as a power of two: 0.0078125 is 2^-7. Empty for None."""
    if value is None:
        return ""
    return "0" if value == 0 else octaves(math.log2(value))


def octaves(log2: float) -> str:
    """A log2 as a power of two: -7 is 2^-7."""
    # adding 0.0 turns -0.0 into 0.0
    return f"2^{round(log2, 2) + 0.0:g}"
