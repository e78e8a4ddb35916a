"""Numbers, comments and quoted text for files that other programs read."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from mutransfer_cli.emit.targets.sheet import Sheet, Values


def number(value: float) -> str:
    """As many digits as give the same value back, and a dot: without it YAML 1.1 takes 1e-08 for
    text."""
    mantissa, e, exponent = repr(float(value)).partition("e")
    return mantissa + ("" if "." in mantissa else ".0") + e + exponent


def comment(sentence: str) -> list[str]:
    """Lines of a comment in Python, YAML and shell; nothing in it can end the comment."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in sentence)
    lines = textwrap.wrap(safe, 96, break_long_words=False, break_on_hyphens=False)
    return [f"# {line}" if n == 0 else f"#   {line}" for n, line in enumerate(lines or [""])]


def comments(sentences: Iterable[str]) -> str:
    return "\n".join(line for sentence in sentences for line in comment(sentence)) + "\n"


def ratio(sheet: Sheet, values: Values) -> str:
    """A rate against that of the parameters not named."""
    return f"{values.lr / sheet.rest.lr:.4g} x {sheet.rest_role}"


def decay_note(values: Values) -> str:
    """Both conventions; the file itself holds the lr-coupled one."""
    if values.weight_decay is None:
        return "weight decay not known: use that of your runs"
    if not values.weight_decay:
        return "no weight decay"
    coupled, independent = values.weight_decay, values.independent or 0.0
    return f"weight decay {coupled:.6g} lr-coupled = {independent:.6g} independent"


def python_values(values: Values) -> str:
    """Keywords of a parameter group as a Python dictionary's content."""
    content = {
        "lr": number(values.lr),
        "weight_decay": None if values.weight_decay is None else number(values.weight_decay),
        "betas": values.betas and f"({', '.join(map(number, values.betas))})",
        "eps": None if values.eps is None else number(values.eps),
    }
    return ", ".join(f'"{key}": {text}' for key, text in content.items() if text)
