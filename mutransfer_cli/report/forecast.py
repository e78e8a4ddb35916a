"""Values to use at a target width, what they cost there, and the runs that were not fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mutransfer_cli.fit.decay import PRODUCTS
from mutransfer_cli.fit.exponents import FAR, MOST_OCTAVES, Axis, LineAt
from mutransfer_cli.fit.sentences import what_to_use
from mutransfer_cli.report.run import Run
from mutransfer_cli.words import (
    as_sentence,
    digits,
    listed,
    loss,
    octaves,
    rate,
    rate_and_power,
    words_of,
)

_, BOTH = PRODUCTS["lr_coupled"]
REASONS = {"bad_run": "off the bowl of all others", "broken": "no bowl reaches it"}


@dataclass(frozen=True)
class Forecasts:
    """Forecast at one width.

    Attributes:
        advice: sentences that say which values to use, or that there are none yet.
        about: a sentence about the width.
        rows: name, value, interval of one run's own optimum, and expected cost, by hyperparameter.
    """

    width: int
    advice: Sequence[str]
    about: str
    rows: Sequence[Sequence[str]]


def forecasts(run: Run, asked: Mapping[str, Axis], width: int | None = None) -> Forecasts:
    """Evaluate the forecasts of the fitted lines.

    Args:
        asked: fits by hyperparameter.
        width: the target; None for that of the folder's recipe, or else FAR times the largest.
    """
    own = run.recipe.width if run.recipe else None
    target = width or own or FAR * max(run.widths)
    fitted = {name: axis for name, axis in asked.items() if axis.line is not None}
    largest = max((max(axis.usable) for axis in fitted.values()), default=max(run.widths))
    times = f"{target / largest:.3g} times the largest {'fitted ' if fitted else ''}width"
    about = f"Width {target} is {times}."
    if width is None and run.recipe is not None:
        about = f"Width {target} is that of {run.recipe.name}, {times}."
    elif width is None:
        about = f"No target was given (--width): {target} is {times}."
    near = {name: axis for name, axis in fitted.items() if _within(axis.at(target))}
    advice = [_advice(name, axis, target) for name, axis in near.items()]
    missing = [words_of(name) for name in asked if name not in near]
    if BOTH in near:  # on a ridge neither has a best value of its own
        advice.append("Any swept lr will do, with the weight_decay that gives this product.")
        missing = []
    if missing:
        advice.append(f"For width {target} there is no best {listed(missing)} yet.")
    rows = [_row(name, axis, target, run.unit) for name, axis in fitted.items()]
    return Forecasts(target, advice, about, rows)


def _within(at: LineAt) -> bool:
    """Whether a hyperparameter can have such values; fits of few widths reach beyond."""
    return max(abs(at.low), abs(at.high)) < MOST_OCTAVES


def _advice(name: str, axis: Axis, width: int) -> str:
    assert axis.exponent is not None, "callers refuse an axis without a line"
    at = axis.at(width)
    values = (2**at.value, 2**at.low, 2**at.high)
    return as_sentence(what_to_use(name, width, values, axis.exponent.level))


def _row(name: str, axis: Axis, width: int, unit: str) -> list[str]:
    at, excess = axis.at(width), axis.excess_at(width)
    cost = "" if excess is None else f"{digits(excess, 2)} {unit}"
    if not _within(at):
        return [name, octaves(at.value), f"{octaves(at.low)} to {octaves(at.high)}", cost]
    return [name, rate_and_power(2**at.value), f"{rate(2**at.low)} to {rate(2**at.high)}", cost]


def left_out(axis: Axis) -> list[list[str]]:
    """The runs that were not fitted: width, value, seed, loss, loss above the bowl, and why."""
    return [
        [
            str(one.width),
            rate_and_power(one.value),
            one.seed or "",
            loss(one.loss),
            digits(one.excess, 3),
            REASONS[one.reason],
        ]
        for one in axis.left_out
    ]
