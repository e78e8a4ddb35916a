"""Tables of what is expected at a target width, and of the runs that were not fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mutransfer_cli.fit.exponents import FAR, MOST_OCTAVES, Axis
from mutransfer_cli.words import digits, loss, octaves, power

REASONS = {"bad_run": "off the bowl of all others", "broken": "no bowl reaches it"}


@dataclass(frozen=True)
class Forecasts:
    """Forecast at one width.

    Attributes:
        times: the width as a multiple of the largest fitted one.
        rows: name, value, interval of one run's own optimum, and expected cost, by hyperparameter.
        refused: the hyperparameters without a fit.
    """

    width: int
    times: float
    rows: Sequence[Sequence[str]]
    refused: Sequence[str]


def forecasts(
    asked: Mapping[str, Axis], widths: Sequence[int], unit: str, width: int | None = None
) -> Forecasts:
    """Evaluate the forecasts of the fitted lines.

    Args:
        asked: fits by hyperparameter.
        widths: the swept widths.
        unit: unit of the loss.
        width: the target; None for FAR times the largest width.
    """
    width = FAR * max(widths) if width is None else width
    fitted = {name: axis for name, axis in asked.items() if axis.line is not None}
    refused = [name for name in asked if name not in fitted]
    largest = max((max(axis.usable) for axis in fitted.values()), default=max(widths))
    rows = [_row(name, axis, width, unit) for name, axis in fitted.items()]
    return Forecasts(width, width / largest, rows, refused)


def _row(name: str, axis: Axis, width: int, unit: str) -> list[str]:
    at, excess = axis.at(width), axis.excess_at(width)
    cost = "" if excess is None else f"{excess:.2g} {unit}"
    value = octaves(at.value)
    if abs(at.value) < MOST_OCTAVES:
        value += f" ({2**at.value:.3g})"
    return [name, value, f"{octaves(at.low)} to {octaves(at.high)}", cost]


def left_out(axis: Axis) -> list[list[str]]:
    """The runs that were not fitted: width, value, seed, loss, loss above the bowl, and why."""
    return [
        [
            str(one.width),
            power(one.value),
            one.seed or "",
            loss(one.loss),
            digits(one.excess, 3),
            REASONS[one.reason],
        ]
        for one in axis.left_out
    ]
