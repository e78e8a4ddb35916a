"""Compare the records of an experiment with a paper's claim."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from benchmarks.experiments import Claim, Measured, measured
from mutransfer_cli.check.coordinates import t_interval, width_slopes
from mutransfer_cli.check.spectrum import hidden_at_end
from mutransfer_cli.fit.breakers import horizon_of
from mutransfer_cli.fit.exponents import Axis
from mutransfer_cli.fit.from_records import exponents_of_records
from mutransfer_cli.rules.plan import AxisName
from mutransfer_cli.spec.records import Records, TrialRecord
from mutransfer_cli.spec.tables import trial_frame

WITHIN = 0.25  # largest difference at which exponents count as equal
WITHIN_LOSS = 0.01  # nats
WITHIN_SPECTRUM = 0.1  # predictions of the weight-decay rules differ by 1/4
NOT_RESOLVED = "not resolved"


@dataclass(frozen=True)
class Found:
    """A number with its interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: np.ndarray) -> Found:
        """The mean of values, with an interval by Student's t."""
        mean, half = t_interval(values)
        return cls(mean, mean - half, mean + half)

    def __format__(self, spec: str) -> str:
        value, low, high = (
            format(x, f"+{spec or '.2f'}") for x in (self.value, self.low, self.high)
        )
        return f"{value} ({low} to {high})"


def judged(claim: Claim, found: Measured) -> tuple[str, str]:
    """Return the measurement in words and whether it agrees with the claim."""
    records = found.records
    if claim.lower_loss_than is not None:
        return _of_losses(records, claim.lower_loss_than, lower)
    if claim.same_loss_as is not None:
        return _of_losses(records, claim.same_loss_as, lambda x: near(x, 0.0, WITHIN_LOSS))
    if claim.best is not None:
        return _of_best(records, claim.best)
    if claim.spectrum is not None:
        return _of_spectrum(claim.spectrum, claim.at, found, records)
    trials = at(records, claim.at)
    axis = rate(records, trials)
    if axis.exponent is None:
        return axis.sentence.split(":")[0], NOT_RESOLVED
    x = Found(axis.exponent.value, axis.exponent.low, axis.exponent.high)
    said = f"exponent {x}{_horizon(records, best_rate(axis), claim.at)}"
    if claim.drifts:
        return said, NEGATED[near(x, 0.0, WITHIN)]
    return said, near(x, claim.exponent or 0.0, WITHIN)


NEGATED = {"yes": "no", "no": "yes", NOT_RESOLVED: NOT_RESOLVED}


def near(found: Found, expected: float, within: float) -> str:
    """Return yes if the whole interval is within the tolerance, no if it is outside."""
    low, high = expected - within, expected + within
    if low <= found.low and found.high <= high:
        return "yes"
    return "no" if found.high < low or high < found.low else NOT_RESOLVED


def at(records: Records, values: Mapping[AxisName, float]) -> list[TrialRecord]:
    """The trials whose hyperparameters have these values."""
    return [t for t in records.trials if all(t.axes[axis] == x for axis, x in values.items())]


def rate(records: Records, trials: list[TrialRecord]) -> Axis:
    """The fit of the learning rate."""
    return exponents_of_records(replace(records, trials=tuple(trials)))[0].axes["lr"]


def best_rate(axis: Axis) -> float | None:
    """The best rate at the widest width."""
    return axis.optimum[max(axis.optimum)].value


def _horizon(records: Records, lr: float | None, values: Mapping[AxisName, float]) -> str:
    if "weight_decay" not in values or lr is None:
        return ""
    widest = max(trial.width for trial in records.trials)
    horizon = horizon_of(records.header.protocol, widest, lr, values["weight_decay"])
    return f", horizon {horizon.value:.1f}"


def _of_losses(records: Records, other: str, agrees: Callable[[Found], str]) -> tuple[str, str]:
    against = measured(other)
    if against is None:
        return f"`{other}` was not run", NOT_RESOLVED
    difference = loss_difference(records, against.records)
    return f"loss {difference:.3f} nats against `{other}`", agrees(difference)


def lower(difference: Found) -> str:
    return "yes" if difference.high < 0 else "no" if difference.low > 0 else NOT_RESOLVED


def loss_difference(one: Records, other: Records) -> Found:
    """The difference of the best losses, over seeds and the wider half of the common widths.

    Trials of one seed read the same data, so the differences are paired.
    """
    best = [best_losses(records) for records in (one, other)]
    both = best[0].index.intersection(best[1].index)
    widths = sorted({width for width, _ in both})
    wider = set(widths[len(widths) // 2 :])
    kept = [key for key in both if key[0] in wider]
    return Found.of((best[0].loc[kept] - best[1].loc[kept]).to_numpy())


def best_losses(records: Records) -> pd.Series[float]:
    """The best loss over all rates, by width and seed."""
    frame = trial_frame(records.trials)
    losses: pd.Series[float] = frame.groupby(["width", "seed"])["eval_loss"].min()
    return losses


def _of_best(records: Records, expected: Mapping[AxisName, float]) -> tuple[str, str]:
    best = min(
        (t for t in records.trials if t.eval_loss is not None), key=lambda t: t.eval_loss or 0.0
    )
    found = {axis: best.axes[axis] for axis in expected}
    said = ", ".join(f"{axis} {value:g}" for axis, value in found.items())
    return f"best: {said}", "yes" if found == expected else "no"


def _of_spectrum(
    expected: float, values: Mapping[AxisName, float], found: Measured, records: Records
) -> tuple[str, str]:
    trials = at(records, values)
    lr = values["lr"] if "lr" in values else nearest_best(records, trials)
    if lr is None:
        return "no best rate at the widest width", NOT_RESOLVED
    kept = [t for t in trials if t.lr == lr]
    measurements = found.spectrum([t.trial for t in kept])
    top = hidden_at_end(records, kept, measurements)
    x = Found.of(width_slopes(top).to_numpy())
    said = f"top singular value scales as width^{x}{_horizon(records, lr, values)}"
    return said, near(x, expected, WITHIN_SPECTRUM)


def nearest_best(records: Records, trials: list[TrialRecord]) -> float | None:
    """The rate of the grid nearest to the best one at the widest width."""
    best = best_rate(rate(records, trials))
    if best is None:
        return None
    return min({t.lr for t in trials}, key=lambda lr: abs(np.log(lr / best)))
