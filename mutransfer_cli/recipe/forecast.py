"""Where the optimum of one future run lies, and what using the recipe's value costs there."""

from __future__ import annotations

from mutransfer_cli.errors import InputError, InsufficientEvidence
from mutransfer_cli.fit.exponents import MOST_OCTAVES, Axis
from mutransfer_cli.fit.forms import Form
from mutransfer_cli.fit.sentences import what_to_use
from mutransfer_cli.recipe.straightness import is_assumed
from mutransfer_cli.recipe.types import Forecast
from mutransfer_cli.words import digits, listed, rate


def from_octaves(octaves: float, what: str) -> float:
    """2^octaves.

    Raises:
        InsufficientEvidence: no hyperparameter has such a value, so the fit does not reach it.
    """
    if not abs(octaves) <= MOST_OCTAVES:
        raise InsufficientEvidence(
            f"{what} reaches 2^{octaves:.3g}: the widths are too few or too close together to say "
            "anything about it; sweep wider apart"
        )
    return float(2.0**octaves)


def forecast(
    name: str, axis: Axis, width: int, loss_per_doubling: float | None, unit: str
) -> Forecast:
    """Prediction interval of one run's optimum at a width, and the expected cost of the line there.

    Both count the forms beside the line where the optima support them: see `Axis.at` and
    `Axis.excess_at`.

    Args:
        loss_per_doubling: decrease of the target's loss per doubling of its compute.
        unit: unit of the loss.

    Raises:
        InputError: no compute would buy the excess back.
        InsufficientEvidence: as in `from_octaves`.
    """
    assert axis.exponent is not None, "callers refuse an insufficient fit"
    found, what = axis.at(width), f"the prediction of {name} at width {width}"
    value, low, high = (from_octaves(at, what) for at in (found.value, found.low, found.high))
    beyond, excess = width / max(axis.usable), axis.excess_at(width)
    multiplier = _in_compute(excess, loss_per_doubling, unit)
    supported = axis.forms.supported_at(width) if axis.forms else {}
    level = axis.exponent.level
    sentence = (
        f"{what_to_use(name, width, (value, low, high), level)}; that is {beyond:.3g}x the largest "
        "fitted width"
    )
    if excess is not None:
        most = f"{'up to ' if supported else ''}{digits(excess, 2)} {unit}"
        sentence += _cost(value, most, multiplier)
    if supported:
        forms = [f"the {form} form ({rate(2.0**at.value)})" for form, at in supported.items()]
        sentence += f"; as the optima bend away from the line, this counts {listed(forms)} too"
    elif is_assumed(axis, width):
        sentence += "; that the law is straight is assumed"
    return Forecast(
        low=low,
        high=high,
        level=level,
        expected_excess_loss=excess,
        compute_multiplier=multiplier,
        times_largest_width=beyond,
        forms=by_forms(axis, width),
        sentence=sentence,
    )


def _in_compute(excess: float | None, loss_per_doubling: float | None, unit: str) -> float | None:
    if excess is None or loss_per_doubling is None:
        return None
    if excess > MOST_OCTAVES * loss_per_doubling:
        raise InputError(
            f"loss_per_doubling {loss_per_doubling:g}: no compute buys back {digits(excess, 2)} "
            f"{unit} at that rate; give the decrease of the target's loss",
            setting="loss_per_doubling",
        )
    return float(2 ** (excess / loss_per_doubling))


def _cost(value: float, most: str, multiplier: float | None) -> str:
    loss = f", and using {rate(value)} is expected to cost {most}"
    return loss if multiplier is None else f"{loss}, as much as {multiplier - 1:.1%} of the compute"


def by_forms(axis: Axis, width: int) -> dict[Form, float]:
    """The optimum at a width by the forms other than the line."""
    if axis.forms is None:
        return {}
    found = axis.forms.at(width)
    return {form: from_octaves(at, "a form beside the line") for form, at in found.items()}
