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
from mutransfer_cli.words import listed

TOLERANCE = OF_EXPONENTS
NO_SCATTER = 0.01  # octaves
NEAR = 0.2  # of the tolerance, to its edge


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
    interval, deciding = (found.low, found.high), what_decides(axis, tolerance)
    return measure(quantity, found.value, interval, expected, tolerance, deciding=deciding)


def what_decides(axis: Axis, tolerance: float = TOLERANCE, runs: int | None = None) -> str:
    """Say what would decide an open verdict, if the exponent stays as it is estimated: a clause.

    Args:
        axis: a fit with an exponent, whose `expected_exponent` counts as 0 where it is not known.
        runs: number of runs at each width; None where it is not known.
    """
    found, usable = axis.exponent, [*axis.usable]
    assert found is not None, "callers refuse an axis without an exponent"
    half_width = found.high - found.value
    room = abs(abs(found.value - (axis.expected_exponent or 0.0)) - tolerance)
    widths = widths_to_decide(half_width, room, usable)
    clause = "so near the edge of the tolerance four larger widths would not decide it"
    if widths:
        count = "the same runs" if runs is None else f"{runs * len(widths)} more runs"
        clause = f"{count} at width {listed(map(str, widths))} would decide it"
    elif room > NEAR * tolerance:
        clause = "four larger widths would not decide it; add seeds, and rates near the optima"
    again = runs_to_decide(half_width, room)
    if widths and again and axis.line is not None and axis.line.scatter < NO_SCATTER:
        clause += f"; so would {again} times the runs: the optima scatter no more than the noise"
    return clause
