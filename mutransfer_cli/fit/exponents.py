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
from mutransfer_cli.spec.protocol import DeclaredProtocol
from mutransfer_cli.spec.records import BaseParameterRecord, Protocol, Status
from mutransfer_cli.strict import Count, NonNegative, Number, Positive, Strict

EXPONENTS_SCHEMA = "mutransfer.exponents/1"


def refuse_disorder(low: float, value: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"expected low <= value <= high, found {low:g}, {value:g}, {high:g}")


class Interval(Strict):
    """A value with its two-sided interval.

    Attributes:
        value: the estimate.
        low, high: the ends of the interval, in the units of the value.
        level: how often such intervals hold the truth; 0.95 is 95 %.
    """

    value: Number
    low: Number
    high: Number
    level: Annotated[Number, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def ordered(self) -> Interval:
        refuse_disorder(self.low, self.value, self.high)
        return self


class Optimum(Strict):
    """The best value at one width, in the hyperparameter's own units; null unless status is ok.

    Attributes:
        value: where the loss is least, in the hyperparameter's own units.
        low, high: its interval, sampling error only.
        status: ok, or why the optimum is not used.
        side: where the optimum lies when it is not_bracketed.
        loss: at the optimum, nats per token (of samples their mean squared error).
        form: octaves to the optimum of a parabola: what the form of the bowl may add to the error.
        curvature: of the loss, nats per octave^2.
        tilt: of the curvature, per octave, above 0 when steeper above the optimum.
        residual: octaves above the fitted line.
    """

    value: Positive | None
    low: Positive | None
    high: Positive | None
    status: Literal["ok", "too_few_points", "not_bracketed", "flat", "unresolved", "multimodal"]
    side: Literal["low", "high"] | None = None
    loss: Number | None = None
    form: NonNegative | None = None
    curvature: NonNegative | None = None
    tilt: Number | None = None
    residual: Number | None = None

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

    Attributes:
        width: in features; the optimum at another one is value * (other / width)^exponent.
        value: the optimum, in the hyperparameter's own units.
        low, high: its interval.
        scatter: standard deviation of the true optima about the line, octaves.
    """

    width: Positive
    value: Positive
    low: Positive
    high: Positive
    scatter: NonNegative

    @model_validator(mode="after")
    def ordered(self) -> Line:
        refuse_disorder(self.low, self.value, self.high)
        return self


class Prediction(Strict):
    """Where one future optimum lies, in octaves about the line, at the intervals' level:

    within sqrt(half_width^2 + (per_octave * log2(other / width))^2) at another width, which is
    `quantile` standard errors.

    Attributes:
        width: where the prediction is narrowest, in features.
        half_width: of the prediction there, octaves.
        per_octave: its part that grows with the distance from `width`, octaves per doubling.
        quantile: standard errors in a half-width.
    """

    width: Positive
    half_width: Annotated[NonNegative, Field(le=1e4)]
    per_octave: Annotated[NonNegative, Field(le=1e4)]
    quantile: Annotated[Number, Field(ge=0.01)]


class Forms(Strict):
    """Forms beside the line, with x = log2(other / width); shown from five widths on.

    Attributes:
        width: geometric mean of the widths, in features.
        value: the curved form at `width`: log2 optimum = log2(value) + exponent * x + bend * x^2.
        exponent: of the curved form, its slope at `width`.
        bend: of the curved form, octaves per octave^2.
        bend_error: standard error of bend.
        limit: of the saturating form, a drift that fades as 1/width: log2 optimum = log2(limit) +
            drift * 2^-x.
        drift: of the saturating form, octaves at `width`.
        drift_error: standard error of drift.
    """

    width: Positive
    value: Positive
    exponent: Number
    bend: Number
    bend_error: NonNegative
    limit: Positive
    drift: Number
    drift_error: NonNegative


class Axis(Strict):
    """One hyperparameter.

    Attributes:
        status: ok; insufficient, no exponent can be said; or ridge, lr and weight decay cannot be
            told apart.
        sentence: the status in words.
        exponent: d log(optimum) / d log(width), null when refused; its interval is the wider of
            the next two.
        law_interval: for widths like these, scatter between them included.
        measurement_interval: for exactly these widths, if there were no scatter.
        form_spread: the exponent minus that of parabolas; null for joint fits and given optima.
        form_interval: low and high of form_spread over resampled losses.
        without_largest: the exponent without the largest width; null with three.
        expected_exponent: the rule's; null where the rule says nothing of the axis.
        line: log2 optimum as a line in log2 width.
        prediction: where one future optimum lies about the line.
        forms: other forms than the line; null with fewer than five widths.
        assumed_scatter: octaves below which the user says that the scatter between widths lies.
        warnings: by code.
        optimum: by width.
    """

    status: Literal["ok", "insufficient", "ridge"]
    sentence: str
    exponent: Interval | None
    law_interval: Interval | None
    measurement_interval: Interval | None
    form_spread: Number | None
    form_interval: tuple[Number, Number] | None = None
    without_largest: Number | None
    expected_exponent: Number | None
    line: Line | None
    prediction: Prediction | None
    forms: Forms | None = None
    assumed_scatter: Positive | None = None
    warnings: dict[str, str]
    optimum: Annotated[dict[Count, Optimum], Field(min_length=1)]

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
    """Where learning rate and weight decay cannot be told apart.

    Attributes:
        angle: of the direction across the ridge, degrees from the lr axis of (log2 lr, log2 weight
            decay). 45: only lr * weight_decay matters.
        angle_error: its standard error, degrees.
        product_only: the angle is compatible with only the decay a step mattering.
        exponent: of the position across the ridge, scaled as that of the decay a step.
    """

    angle: Number
    angle_error: NonNegative
    product_only: bool
    exponent: Interval


class WithoutDecay(Strict):
    """The best run with weight decay 0 at a width.

    Attributes:
        lr: its base rate.
        loss: its mean over seeds, nats per token (of samples the mean squared error).
        excess: the loss above that of the best run with weight decay; null where there is none.
    """

    lr: Positive
    loss: Number
    excess: Number | None


class Horizon(Strict):
    """Sum over the steps of lr_hidden * weight_decay (lr_coupled) at the widest width.

    Below 1 the steady state that weight decay sets was never reached.

    Attributes:
        width: the widest, in features.
        lr, weight_decay: base values it is taken at: the optimum, or the best run if there is none.
        value: the sum, without unit.
        at_most: no schedule was declared; the rate counts as constant.
    """

    width: Count
    lr: Positive
    weight_decay: NonNegative
    value: NonNegative
    at_most: bool


class Decay(Strict):
    """What goes with a fit of weight decay, jointly with the learning rate where that varies.

    Attributes:
        product: the decay a step: lr * weight_decay when decay is lr_coupled, weight_decay itself
            when it is independent. Identified on a ridge of that direction too; null where the
            learning rate is held.
        ridge: null where lr and weight decay can be told apart.
        without_decay: by width; 0 has no logarithm and no part in the fit.
        horizon: null where the protocol is not known.
    """

    product: Axis | None
    ridge: RidgeShape | None
    without_decay: dict[Count, WithoutDecay]
    horizon: Horizon | None


class Group(Strict):
    """The fit of the rows with one value of the `--by` column.

    Attributes:
        axes: the fits by hyperparameter.
        decay: where weight decay was fitted.
        weight_decay: the one that all these trials have; null where it varies or is not known.
    """

    axes: Annotated[dict[AxisName, Axis], Field(min_length=1)]
    decay: Decay | None = None
    weight_decay: NonNegative | None = None


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
    """What `fit-exponents` writes and `transfer` reads.

    Attributes:
        schema: the format of this file, and its version.
        tool_version: of mutransfer, which wrote it.
        metric: the losses' column.
        axes: the fits by hyperparameter; empty with `groups`.
        decay: where weight decay was fitted.
        groups: the fits by value of the `--by` column.
        trials: how many, by status.
        protocol_hash: first 16 hex digits of the SHA-256 of the protocol's canonical JSON.
        protocol: of the sweep, or declared for own results; null where nothing was declared.
        base_plan: every parameter of the model at the base width; empty for own results.
        decay_convention: of every weight decay here; null where it is not known.
        weight_decay: the one that all trials have; null where it varies or is not known.
    """

    schema_: Literal["mutransfer.exponents/1"] = Field(alias="schema")
    tool_version: str
    metric: str
    axes: dict[AxisName, Axis]
    decay: Decay | None = None
    groups: dict[str, Group] = Field(default_factory=dict)
    trials: dict[Status, int]
    protocol_hash: str | None
    protocol: AnyProtocol | None
    base_plan: tuple[BaseParameterRecord, ...]
    decay_convention: DecayConvention | None = None
    weight_decay: NonNegative | None = None

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
