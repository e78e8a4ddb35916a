"""Gate `exponent`: whether the best base value moves with width as the rule says."""

from __future__ import annotations

from mutransfer_cli.check.measure import (
    OF_EXPONENTS,
    Gate,
    Measure,
    gate,
    measure,
    runs_to_decide,
    unmeasured,
    widths_to_decide,
)
from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.exponents import Axis, Group, Interval

TOLERANCE = OF_EXPONENTS
NO_SCATTER = 0.01  # octaves


def exponent_gate(group: Group, tolerance: float = TOLERANCE) -> Gate:
    """Judge every axis whose exponent the rule knows.

    Raises:
        InputError: there is no axis whose exponent it knows.
    """
    known = {name: axis for name, axis in group.axes.items() if axis.expected_exponent is not None}
    if not known:
        raise InputError(
            "exponent: no rule says what the exponents should be; declare how the runs were made, "
            "with a protocol for their table"
        )
    return gate("exponent", (_of_axis(name, axis, tolerance) for name, axis in known.items()))


def _of_axis(name: str, axis: Axis, tolerance: float) -> Measure:
    quantity, expected, found = f"exponent of {name}", axis.expected_exponent or 0.0, axis.exponent
    if found is None:
        return unmeasured(quantity, axis.sentence, expected, tolerance)
    deciding = _deciding(axis, found, abs(abs(found.value - expected) - tolerance))
    interval = (found.low, found.high)
    return measure(quantity, found.value, interval, expected, tolerance, deciding=deciding)


def _deciding(axis: Axis, found: Interval, room: float) -> str:
    half_width = found.high - found.value
    widths = widths_to_decide(half_width, room, len(axis.usable), found.level)
    clause = (
        f"{widths} widths in this range would decide it, were the value exact"
        if widths
        else "the value is too near the edge of the tolerance for more widths to decide it soon"
    )
    runs = runs_to_decide(half_width, room)
    if runs and axis.line is not None and axis.line.scatter < NO_SCATTER:
        clause += f", or {runs} times the runs, for no scatter between widths is seen"
    return clause
