"""The fit's output, `schema: mutransfer.exponents/1`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from mutransfer_cli.files.records import BaseParameterRecord, Protocol, Status
from mutransfer_cli.files.strict import Count, NonNegative, Number, Positive, Strict
from mutransfer_cli.rules.plan import AxisName

EXPONENTS_SCHEMA = "mutransfer.exponents/1"


class Interval(Strict):
    """A value with its two-sided interval at `level` (0.95 is 95 %)."""

    value: Number
    low: Number
    high: Number
    level: Annotated[Number, Field(gt=0, lt=1)]


class Optimum(Strict):
    """The best value at one width, in the hyperparameter's own units; null unless status is ok.

    Attributes:
        low, high: sampling error only.
        form: octaves to the optimum of a parabola: what the form of the bowl may add to the error.
        loss: at the optimum, nats.
        curvature: nats per octave^2; tilt: per octave, above 0 when steeper above the optimum.
        side: where the optimum lies when it is not_bracketed.
    """

    value: Positive | None
    low: Positive | None
    high: Positive | None
    status: Literal["ok", "too_few_points", "not_bracketed", "flat", "unresolved", "multimodal"]
    side: Literal["low", "high"] | None = None
    loss: Number | None = None
    form: NonNegative | None = None
    curvature: Number | None = None
    tilt: Number | None = None


class Line(Strict):
    """The fitted optimum at `width`, the widths' weighted geometric mean.

    There its error is independent of the exponent's, so that at another width the interval's
    half-width in log2 is sqrt(own^2 + (exponent's * log2(other / width))^2).
    """

    width: Positive
    value: Positive
    low: Positive
    high: Positive
    scatter: NonNegative


class Prediction(Strict):
    """Where one future optimum lies, in octaves about the line, at the intervals' level:

    within sqrt(half_width^2 + (per_octave * log2(other / width))^2) at another width, which is
    `quantile` standard errors.
    """

    width: Positive
    half_width: NonNegative
    per_octave: NonNegative
    quantile: Positive


class Axis(Strict):
    """One hyperparameter.

    Attributes:
        exponent: d log(optimum) / d log(width), null when refused; its interval is the wider of
            the next two.
        law_interval: for widths like these, scatter between them included.
        measurement_interval: for exactly these widths, if there were no scatter.
        form_spread: the exponent minus that of parabolas.
        without_largest: the exponent without the largest width; null with three.
        expected_exponent: the rule's; null where the rule says nothing of the axis.
        warnings: by code.
    """

    status: Literal["ok", "insufficient"]
    sentence: str
    exponent: Interval | None
    law_interval: Interval | None
    measurement_interval: Interval | None
    form_spread: Number | None
    without_largest: Number | None
    expected_exponent: Number | None
    line: Line | None
    prediction: Prediction | None
    warnings: dict[str, str]
    optimum: Annotated[dict[Count, Optimum], Field(min_length=1)]


class Group(Strict):
    """The fit of the rows with one value of the `--by` column."""

    axes: Annotated[dict[AxisName, Axis], Field(min_length=1)]


class Exponents(Strict):
    """What `fit-exponents` writes and `transfer` reads.

    Attributes:
        metric: the losses' column.
        axes: the fits; empty with `groups`.
        groups: the fits by value of the `--by` column.
        protocol, protocol_hash, base_plan: null and empty for own results.
    """

    schema_: Literal["mutransfer.exponents/1"] = Field(alias="schema")
    tool_version: str
    metric: str
    axes: dict[AxisName, Axis]
    groups: dict[str, Group] = Field(default_factory=dict)
    trials: dict[Status, int]
    protocol_hash: str | None
    protocol: Protocol | None
    base_plan: tuple[BaseParameterRecord, ...]

    @model_validator(mode="after")
    def axes_or_groups(self) -> Exponents:
        if bool(self.axes) == bool(self.groups):
            raise ValueError("holds axes or groups, one of them")
        return self

    @model_serializer(mode="wrap")
    def without_empty_groups(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if key != "groups" or value}
