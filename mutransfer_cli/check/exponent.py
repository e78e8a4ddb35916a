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
from mutransfer_cli.fit.exponents import Axis, Group

TOLERANCE = OF_EXPONENTS
NO_SCATTER = 0.01  # octaves
MOST_RUNS = 100  # times the present ones


def exponent_gate(group: Group, tolerance: float = TOLERANCE) -> Gate:
    """Judge every axis whose exponent the rule knows.

    Raises:
        InputError: there is none.
    """
    known = {name: axis for name, axis in group.axes.items() if axis.expected_exponent is not None}
    if not known:
        raise InputError(
            "exponent: no rule says what the exponents should be; declare a protocol for "
            "`fit-exponents`: how the runs were made"
        )
    return gate("exponent", (_of_axis(name, axis, tolerance) for name, axis in known.items()))


def _of_axis(name: str, axis: Axis, tolerance: float) -> Measure:
    quantity, expected = f"exponent of {name}", axis.expected_exponent or 0.0
    if axis.exponent is None:
        return unmeasured(quantity, axis.sentence, expected, tolerance, "")
    x = axis.exponent
    room = abs(abs(x.value - expected) - tolerance)
    return measure(
        quantity,
        x.value,
        (x.low, x.high),
        expected,
        tolerance,
        deciding=_deciding(axis, room),
    )


def _deciding(axis: Axis, room: float) -> str:
    assert axis.exponent is not None
    assert axis.line is not None
    half_width = axis.exponent.high - axis.exponent.value
    widths = widths_to_decide(half_width, room, len(axis.usable), axis.exponent.level)
    clause = (
        f"{widths} widths in this range would decide it, were the value exact"
        if widths
        else "the value is too near the edge of the tolerance for more widths to decide it soon"
    )
    runs = runs_to_decide(half_width, room)
    if axis.line.scatter < NO_SCATTER and runs and runs <= MOST_RUNS:
        clause += f", or {runs} times the runs, for no scatter between widths is seen"
    return clause
