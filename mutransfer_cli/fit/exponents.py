"""The fit's output, `schema: mutransfer.exponents/1`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
    model_validator,
)

from mutransfer_cli.rules.plan import AxisName
from mutransfer_cli.rules.weight_decay import DecayConvention
from mutransfer_cli.spec.protocol import DeclaredProtocol, Protocol
from mutransfer_cli.spec.records import BaseParameterRecord, Status
from mutransfer_cli.strict import Count, NonNegative, Number, Positive, Strict

EXPONENTS_SCHEMA = "mutransfer.exponents/1"


def refuse_disorder(low: float, value: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"expected low <= value <= high, found {low:g}, {value:g}, {high:g}")


class Interval(Strict):
    """A value with its two-sided interval."""

    value: Number
    """The estimate."""
    low: Number
    """The ends of the interval, in the units of the value."""
    high: Number
    """The ends of the interval, in the units of the value."""
    level: Annotated[Number, Field(gt=0, lt=1)]
    """How often such intervals hold the truth; 0.95 is 95 %."""

    @model_validator(mode="after")
    def ordered(self) -> Interval:
        refuse_disorder(self.low, self.value, self.high)
        return self


class Optimum(Strict):
    """The best value at one width, in the hyperparameter's own units; null unless status is ok."""

    value: Positive | None
    """Where the loss is least, in the hyperparameter's own units."""
    low: Positive | None
    """Its interval, sampling error only."""
    high: Positive | None
    """Its interval, sampling error only."""
    status: Literal["ok", "too_few_points", "not_bracketed", "flat", "unresolved", "multimodal"]
    """Ok, or why the optimum is not used."""
    side: Literal["low", "high"] | None = None
    """Where the optimum lies when it is not_bracketed."""
    loss: Number | None = None
    """At the optimum, nats per token (of samples their mean squared error)."""
    form: NonNegative | None = None
    """Octaves to the optimum of a parabola: what the form of the bowl may add to the error."""
    curvature: NonNegative | None = None
    """Of the loss, nats per octave^2."""
    tilt: Number | None = None
    """Of the curvature, per octave, above 0 when steeper above the optimum."""
    residual: Number | None = None
    """Octaves above the fitted line."""

    @model_validator(mode="after")
    def ok_has_an_interval(self) -> Optimum:
        if self.status != "ok":
            return self
        if self.low is None or self.value is None or self.high is None:
            raise ValueError("expected value, low and high of an optimum that is ok")
        refuse_disorder(self.low, self.value, self.high)
        return self


class Line(Strict):
    """The fitted optimum at `width`, the widths' weighted geometric mean.

    There its error is independent of the exponent's, so that at another width the interval's
    half-width in log2 is sqrt(own^2 + (exponent's * log2(other / width))^2).
    """

    width: Positive
    """In features; the optimum at another one is value * (other / width)^exponent."""
    value: Positive
    """The optimum, in the hyperparameter's own units."""
    low: Positive
    """Its interval."""
    high: Positive
    """Its interval."""
    scatter: NonNegative
    """Standard deviation of the true optima about the line, octaves."""

    @model_validator(mode="after")
    def ordered(self) -> Line:
        refuse_disorder(self.low, self.value, self.high)
        return self


class Prediction(Strict):
    """Where one future optimum lies, in octaves about the line, at the intervals' level:

    within sqrt(half_width^2 + (per_octave * log2(other / width))^2) at another width, which is
    `quantile` standard errors.
    """

    width: Positive
    """Where the prediction is narrowest, in features."""
    half_width: Annotated[NonNegative, Field(le=1e4)]
    """Of the prediction there, octaves."""
    per_octave: Annotated[NonNegative, Field(le=1e4)]
    """Its part that grows with the distance from `width`, octaves per doubling."""
    quantile: Annotated[Number, Field(ge=0.01)]
    """Standard errors in a half-width."""


class Forms(Strict):
    """Forms beside the line, with x = log2(other / width); shown from five widths on."""

    width: Positive
    """Geometric mean of the widths, in features."""
    value: Positive
    """The curved form at `width`: log2 optimum = log2(value) + exponent * x + bend * x^2."""
    exponent: Number
    """Of the curved form, its slope at `width`."""
    bend: Number
    """Of the curved form, octaves per octave^2."""
    bend_error: NonNegative
    """Standard error of bend."""
    limit: Positive
    """Of the saturating form, a drift that fades as 1/width: log2 optimum = log2(limit) + drift *
    2^-x."""
    drift: Number
    """Of the saturating form, octaves at `width`."""
    drift_error: NonNegative
    """Standard error of drift."""


class Axis(Strict):
    """One hyperparameter."""

    status: Literal["ok", "insufficient", "ridge"]
    """Ok; insufficient, no exponent can be said; or ridge, lr and weight decay cannot be told
    apart."""
    sentence: str
    """The status in words."""
    exponent: Interval | None
    """D log(optimum) / d log(width), null when refused; its interval is the wider of the next two.
    """
    law_interval: Interval | None
    """For widths like these, scatter between them included."""
    measurement_interval: Interval | None
    """For exactly these widths, if there were no scatter."""
    form_spread: Number | None
    """The exponent minus that of parabolas; null for joint fits and given optima."""
    form_interval: tuple[Number, Number] | None = None
    """Low and high of form_spread over resampled losses."""
    without_largest: Number | None
    """The exponent without the largest width; null with three."""
    expected_exponent: Number | None
    """The rule's; null where the rule says nothing of the axis."""
    line: Line | None
    """Log2 optimum as a line in log2 width."""
    prediction: Prediction | None
    """Where one future optimum lies about the line."""
    forms: Forms | None = None
    """Other forms than the line; null with fewer than five widths."""
    assumed_scatter: Positive | None = None
    """Octaves below which the user says that the scatter between widths lies."""
    warnings: dict[str, str]
    """By code."""
    optimum: Annotated[dict[Count, Optimum], Field(min_length=1)]
    """By width."""

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


class RidgeShape(Strict):
    """Where learning rate and weight decay cannot be told apart."""

    angle: Number
    """Of the direction across the ridge, degrees from the lr axis of (log2 lr, log2 weight decay).
    45: only lr * weight_decay matters."""
    angle_error: NonNegative
    """Its standard error, degrees."""
    product_only: bool
    """The angle is compatible with only the decay a step mattering."""
    exponent: Interval
    """Of the position across the ridge, scaled as that of the decay a step."""


class WithoutDecay(Strict):
    """The best run with weight decay 0 at a width."""

    lr: Positive
    """Its base rate."""
    loss: Number
    """Its mean over seeds, nats per token (of samples the mean squared error)."""
    excess: Number | None
    """The loss above that of the best run with weight decay; null where there is none."""


class Horizon(Strict):
    """Sum over the steps of lr_hidden * weight_decay (lr_coupled) at the widest width.

    Below 1 the steady state that weight decay sets was never reached.
    """

    width: Count
    """The widest, in features."""
    lr: Positive
    """Base values it is taken at: the optimum, or the best run if there is none."""
    weight_decay: NonNegative
    """Base values it is taken at: the optimum, or the best run if there is none."""
    value: NonNegative
    """The sum, without unit."""
    at_most: bool
    """No schedule was declared; the rate counts as constant."""


class Decay(Strict):
    """What goes with a fit of weight decay, jointly with the learning rate where that varies."""

    product: Axis | None
    """The decay a step: lr * weight_decay when decay is lr_coupled, weight_decay itself when it is
    independent. Identified on a ridge of that direction too; null where the learning rate is held.
    """
    ridge: RidgeShape | None
    """Null where lr and weight decay can be told apart."""
    without_decay: dict[Count, WithoutDecay]
    """By width; 0 has no logarithm and no part in the fit."""
    horizon: Horizon | None
    """Null where the protocol is not known."""


class Group(Strict):
    """The fit of the rows with one value of the `--by` column."""

    axes: Annotated[dict[AxisName, Axis], Field(min_length=1)]
    """The fits by hyperparameter."""
    decay: Decay | None = None
    """Where weight decay was fitted."""
    weight_decay: NonNegative | None = None
    """The one that all these trials have; null where it varies or is not known."""


def _kind(protocol: Any) -> str:
    declared = isinstance(protocol, DeclaredProtocol) or (
        isinstance(protocol, dict) and "schema" in protocol
    )
    return "declared" if declared else "own"


AnyProtocol = Annotated[
    Annotated[Protocol, Tag("own")] | Annotated[DeclaredProtocol, Tag("declared")],
    Discriminator(_kind),
]


class Exponents(Strict):
    """What `fit-exponents` writes and `transfer` reads."""

    schema_: Literal["mutransfer.exponents/1"] = Field(alias="schema")
    """The format of this file, and its version."""
    tool_version: str
    """Of mutransfer, which wrote it."""
    metric: str
    """The losses' column."""
    axes: dict[AxisName, Axis]
    """The fits by hyperparameter; empty with `groups`."""
    decay: Decay | None = None
    """Where weight decay was fitted."""
    groups: dict[str, Group] = Field(default_factory=dict)
    """The fits by value of the `--by` column."""
    trials: dict[Status, int]
    """How many, by status."""
    protocol_hash: str | None
    """First 16 hex digits of the SHA-256 of the protocol's canonical JSON."""
    protocol: AnyProtocol | None
    """Of the sweep, or declared for own results; null where nothing was declared."""
    base_plan: tuple[BaseParameterRecord, ...]
    """Every parameter of the model at the base width; empty for own results."""
    decay_convention: DecayConvention | None = None
    """Of every weight decay here; null where it is not known."""
    weight_decay: NonNegative | None = None
    """The one that all trials have; null where it varies or is not known."""

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
        parts = ("groups", "decay")
        return {key: value for key, value in handler(self).items() if key not in parts or value}
