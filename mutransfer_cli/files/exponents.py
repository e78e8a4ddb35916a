"""The fit's output, `schema: mutransfer.exponents/1`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

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
        curvature: nats per octave^2.
        side: where the optimum lies when it is not_bracketed.
    """

    value: Positive | None
    low: Positive | None
    high: Positive | None
    status: Literal["ok", "not_bracketed", "too_few_points", "unresolved"]
    side: Literal["low", "high"] | None = None
    curvature: Number | None = None


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


class Axis(Strict):
    """One hyperparameter: `exponent` is d log(optimum) / d log(width), null when refused.

    `expected_exponent` is the rule's; null where the rule says nothing of the axis.
    """

    status: Literal["ok", "insufficient"]
    sentence: str
    exponent: Interval | None
    expected_exponent: Number | None
    line: Line | None
    optimum: Annotated[dict[Count, Optimum], Field(min_length=1)]


class Exponents(Strict):
    """What `fit-exponents` writes and `transfer` reads."""

    schema_: Literal["mutransfer.exponents/1"] = Field(alias="schema")
    tool_version: str
    metric: Literal["eval_loss"]
    axes: Annotated[dict[AxisName, Axis], Field(min_length=1)]
    trials: dict[Status, int]
    protocol_hash: str
    protocol: Protocol
    base_plan: tuple[BaseParameterRecord, ...]
