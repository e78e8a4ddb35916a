"""The fit's result: what its functions return is what `mutransfer.exponents/1` holds.

Values are in the hyperparameter's own units; whatever is called octaves is a difference of log2.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import (
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
    model_validator,
)

from mutransfer_cli.fit.forms import FormAt, Forms
from mutransfer_cli.fit.optimum import LeftOut, Optimum, refuse_disorder
from mutransfer_cli.rules.plan import AxisName
from mutransfer_cli.rules.weight_decay import DecayConvention
from mutransfer_cli.spec.protocol import DeclaredProtocol, Protocol
from mutransfer_cli.spec.records import AttentionSeen, BaseParameterRecord, Status
from mutransfer_cli.strict import Count, NonNegative, Number, Positive, Sparse, Strict

EXPONENTS_SCHEMA = "mutransfer.exponents/1"
FAR = 8  # times the largest fitted width, from which on a forecast is marked
MOST_OCTAVES = 200  # no hyperparameter lies beyond 2^200, and floats end at 2^1024


class Interval(Strict):
    """A value with its two-sided interval."""

    value: Number
    """The estimate."""
    low: Number
    """Lower end, in the units of the value."""
    high: Number
    """Upper end, in the units of the value."""
    level: Annotated[Number, Field(gt=0, lt=1)]
    """How often such intervals hold the truth; 0.95 is 95%."""

    @model_validator(mode="after")
    def ordered(self) -> Interval:
        refuse_disorder(self.low, self.value, self.high)
        return self


class Line(Strict):
    """The fitted optimum at `width`, the weighted geometric mean of the widths.

    Its error there is independent of the exponent's. At another width the half-width of its
    interval is, in octaves, sqrt(own^2 + (exponent's * log2(other / width))^2).
    """

    width: Positive
    """Width of `value`, in features; the optimum at another is value * (other / width)^exponent."""
    value: Positive
    """The optimum, in the hyperparameter's own units."""
    low: Positive
    """Lower end of its interval."""
    high: Positive
    """Upper end of its interval."""
    scatter: NonNegative
    """Standard deviation of the true optima about the line, octaves."""

    @model_validator(mode="after")
    def ordered(self) -> Line:
        refuse_disorder(self.low, self.value, self.high)
        return self


class Prediction(Strict):
    """How far one future optimum may lie from the line, at the level of the intervals.

    At another width it lies within sqrt(half_width^2 + (per_octave * log2(other / width))^2)
    octaves, which is `quantile` standard errors.
    """

    width: Positive
    """Where the prediction is narrowest, in features."""
    half_width: Annotated[NonNegative, Field(le=1e4)]
    """Half-width of the prediction there, octaves."""
    per_octave: Annotated[NonNegative, Field(le=1e4)]
    """The part that grows with the distance from `width`, octaves per doubling."""
    quantile: Annotated[Number, Field(ge=0.01)]
    """Standard errors in a half-width."""


class LineAt(NamedTuple):
    """The line at a width, in octaves: log2 of the fitted optimum, the half-width of its interval,
    and the ends of the interval of one future optimum."""

    value: float
    half_width: float
    low: float
    high: float


class Axis(Strict):
    """The fit of one hyperparameter."""

    status: Literal["ok", "insufficient", "ridge"]
    """How the fit ended: ok; insufficient, as fewer than three widths have a usable optimum; or
    ridge, as lr and weight decay cannot be told apart."""
    sentence: str
    """The status in words."""
    exponent: Interval | None
    """The slope d log(optimum) / d log(width), null when refused; its interval is the wider of the
    next two."""
    law_interval: Interval | None
    """Interval for widths like these, scatter between them included."""
    measurement_interval: Interval | None
    """Interval for exactly these widths, if there were no scatter."""
    form_spread: Number | None
    """The exponent minus that of the same bowls in narrower windows; null for joint fits and given
    optima."""
    form_interval: tuple[Number, Number] | None = None
    """Low and high of form_spread over resampled losses."""
    without_largest: Number | None
    """The exponent without the largest width; null with three."""
    expected_exponent: Number | None
    """The exponent that the rule expects; null where the rule does not know it."""
    line: Line | None
    """Log2 optimum as a line in log2 width."""
    prediction: Prediction | None
    """Where one future optimum lies about the line."""
    forms: Forms | None = None
    """Other forms than the line; null with fewer than five widths."""
    assumed_scatter: Positive | None = None
    """Bound on the scatter between widths that the user assumed, octaves."""
    warnings: dict[str, str]
    """Sentences by code."""
    left_out: tuple[LeftOut, ...] = ()
    """Runs that were not fitted."""
    optimum: Annotated[dict[Count, Optimum], Field(min_length=1)]
    """Optima by width."""

    @model_validator(mode="after")
    def ok_has_a_law(self) -> Axis:
        law = (self.exponent, self.law_interval, self.measurement_interval, self.line)
        given = [part is not None for part in (*law, self.prediction)]
        if (self.status == "ok") != all(given) or (self.status != "ok" and any(given)):
            raise ValueError(
                "expected exponent, law_interval, measurement_interval, line and prediction where "
                f"the status is ok and nowhere else, found status {self.status}"
            )
        if self.status == "ok" and all(o.status != "ok" for o in self.optimum.values()):
            raise ValueError("status is ok, but no optimum is")
        return self

    @property
    def usable(self) -> dict[int, Optimum]:
        """The optima that are ok, by ascending width."""
        return {w: optimum for w, optimum in sorted(self.optimum.items()) if optimum.status == "ok"}

    def at(self, width: float) -> LineAt:
        """Evaluate the line at a width; the status must be ok.

        One future optimum is never foreseen better than the line is known. Where the optima bend
        away from the line, its interval is the hull of those by the line and by the forms that the
        optima support, so that it need not be symmetric.
        """
        line, exponent = self.line, self.exponent
        assert line is not None, "callers refuse an axis without a line"
        assert exponent is not None
        octaves = math.log2(width / line.width)
        own = math.log2(line.high / line.low) / 2
        slope = (exponent.high - exponent.low) / 2
        value = math.log2(line.value) + exponent.value * octaves
        half_width = math.hypot(own, slope * octaves)
        spread = max(self._predicted(width), half_width)
        ends = [(value - spread, value + spread)]
        ends += [(at.value - at.half_width, at.value + at.half_width) for at in self._forms(width)]
        lows, highs = zip(*ends, strict=True)
        return LineAt(value, half_width, min(lows), max(highs))

    def excess_at(self, width: float) -> float | None:
        """Expected loss at a width of the line's value above the optimum there, nats per token.

        The bowl is that of the largest usable width, and the distance is normal: about 0 if the
        line holds, about the difference to a form if that holds. The largest counts, over the line
        and the forms that the optima support. None for given optima, whose bowls are not known.
        """
        widest = self.usable[max(self.usable)]
        assert self.prediction is not None, "callers refuse an axis without a line"
        value, half_width, *_ = self.at(width)
        error = max(self._predicted(width), half_width) / self.prediction.quantile
        places = [(0.0, error), *((value - at.value, at.error) for at in self._forms(width))]
        costs = [widest.expected_excess(*place) for place in places]
        return max((cost for cost in costs if cost is not None), default=None)

    def _predicted(self, width: float) -> float:
        """Half-width of one future optimum about the line, octaves."""
        assert self.prediction is not None, "callers refuse an axis without a line"
        ahead = math.log2(width / self.prediction.width)
        return math.hypot(self.prediction.half_width, self.prediction.per_octave * ahead)

    def _forms(self, width: float) -> list[FormAt]:
        return [*self.forms.supported_at(width).values()] if self.forms else []

    def warned(self, warnings: dict[str, str]) -> Self:
        """The same with further warnings, by code."""
        return self.model_copy(update={"warnings": self.warnings | warnings})


class RidgeShape(Strict):
    """The ridge along which learning rate and weight decay cannot be told apart."""

    angle: Number
    """Direction across the ridge, degrees from the lr axis of (log2 lr, log2 weight decay). At 45
    degrees only lr * weight_decay matters."""
    angle_error: NonNegative
    """Standard error of the angle, degrees."""
    product_only: bool
    """Whether the angle allows that only the decay per step matters."""
    exponent: Interval
    """Exponent of the position across the ridge, scaled as that of the decay per step."""


class WithoutDecay(Strict):
    """The best run with weight decay 0 at a width."""

    lr: Positive
    """Base learning rate."""
    loss: Number
    """Mean loss over seeds, nats per token (mean squared error for samples)."""
    excess: Number | None
    """The loss above that of the best run with weight decay; null where there is none."""


class Horizon(Strict):
    """Sum over the steps of lr_hidden * weight_decay (lr_coupled) at the widest width.

    Below 1 the steady state that weight decay sets was never reached.
    """

    width: Count
    """The widest width, in features."""
    lr: Positive
    """Base rate at the optimum, or of the best run where there is no optimum."""
    weight_decay: NonNegative
    """Base weight decay at the optimum, or of the best run where there is no optimum."""
    value: NonNegative
    """The sum, dimensionless."""
    at_most: bool
    """Whether the rate counts as constant, as no schedule was declared."""


class Decay(Strict):
    """Further results of a fit of weight decay, joint with the learning rate where that varies."""

    product: Axis | None
    """The decay per step: lr * weight_decay when decay is lr_coupled, weight_decay itself when it
    is independent. A ridge of that direction identifies it too; null where lr is held."""
    ridge: RidgeShape | None
    """Direction in which lr and weight decay act as one; null where they can be told apart."""
    without_decay: dict[Count, WithoutDecay]
    """Best runs with weight decay 0, by width; 0 has no logarithm, so they are not fitted."""
    horizon: Horizon | None
    """Sum of lr * weight decay over the steps; null where the protocol is not known."""


class Group(Strict):
    """The fit of the rows with one value of the `--by` column."""

    axes: Annotated[dict[AxisName, Axis], Field(min_length=1)]
    """The fits by hyperparameter."""
    decay: Decay | None = None
    """Further results where weight decay was fitted."""
    weight_decay: NonNegative | None = None
    """The weight decay that all these trials share; null where it varies or is not known."""


def _kind(protocol: Any) -> str:
    declared = isinstance(protocol, DeclaredProtocol) or (
        isinstance(protocol, dict) and "schema" in protocol
    )
    return "declared" if declared else "own"


AnyProtocol = Annotated[
    Annotated[Protocol, Tag("own")] | Annotated[DeclaredProtocol, Tag("declared")],
    Discriminator(_kind),
]


class Exponents(Sparse):
    """The file that `fit-exponents` writes and `transfer` reads."""

    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"attention"})

    schema_: Literal["mutransfer.exponents/1"] = Field(alias="schema")
    """The format of this file, and its version."""
    tool_version: str
    """Version of mutransfer that wrote it."""
    metric: str
    """Column of the losses."""
    axes: dict[AxisName, Axis]
    """The fits by hyperparameter; empty with `groups`."""
    decay: Decay | None = None
    """Further results where weight decay was fitted."""
    groups: dict[str, Group] = Field(default_factory=dict)
    """The fits by value of the `--by` column."""
    trials: dict[Status, int]
    """Number of trials by status."""
    protocol_hash: str | None
    """First 16 hex digits of the SHA-256 of the protocol's canonical JSON."""
    protocol: AnyProtocol | None
    """Protocol of the sweep, or declared for own results; null where none was declared."""
    base_plan: tuple[BaseParameterRecord, ...]
    """Every parameter of the model at the base width; empty for own results."""
    attention: AttentionSeen | None = None
    """The attention of proxies that are not built in, where they have any."""
    decay_convention: DecayConvention | None = None
    """Convention of every weight decay here; null where it is not known."""
    weight_decay: NonNegative | None = None
    """The weight decay that all trials share; null where it varies or is not known."""
    rows_left_out: dict[str, Count] = Field(default_factory=dict)
    """Number of rows of a table that were not fitted, by reason, such as running or crashed."""

    @model_validator(mode="after")
    def axes_or_groups(self) -> Exponents:
        if bool(self.axes) == bool(self.groups):
            raise ValueError("holds axes or groups, one of them")
        return self

    @property
    def loss_unit(self) -> str:
        return self.protocol.loss_unit if isinstance(self.protocol, Protocol) else "nats"

    @model_serializer(mode="wrap")
    def without_absent_parts(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        parts = ("groups", "decay", "rows_left_out")
        return {key: value for key, value in handler(self).items() if key not in parts or value}
