"""The sweep spec, `schema: mutransfer.sweep/1`: what the user writes."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from mutransfer_cli.files.data import DataSpec
from mutransfer_cli.files.diagnostics import Diagnostics, DiagnosticsSpec
from mutransfer_cli.files.model import AttentionScale, ModelSpec, TransformerSpec
from mutransfer_cli.files.optimizers import AdamSpec, AdamWSpec, OptimizerSpec
from mutransfer_cli.files.parameterization import ParameterizationSpec
from mutransfer_cli.files.strict import Count, Natural, Number, Positive, Strict, nearest
from mutransfer_cli.rules.plan import AXES, MULT_AXES, AxisName
from mutransfer_cli.rules.schedule import ScheduleName

Value = TypeVar("Value", int, float)


def refuse_long_warmup(warmup: int, steps: int) -> None:
    """
    Raises:
        ValueError: nothing would follow the warm-up.
    """
    if warmup >= steps:
        raise ValueError(f"warmup must be below steps, found {warmup} of {steps}")


class TrainSpec(Strict):
    """One training run.

    Attributes:
        steps: optimizer steps.
        batch: sequences per step.
        context: tokens per sequence.
        warmup: steps of linear warm-up.
        schedule: what follows: linear or cosine to zero, or constant.
        clip: global gradient norm of a trial above which its gradient is scaled down; null is off.
        precision: fp32, tf32 (CUDA), bf16 autocast with fp32 weights, or fp64 for comparisons.
        eval_batches: batches of the eval part, the same for every trial.
    """

    steps: Count
    batch: Count = 8
    context: Count = 64
    warmup: Natural = 0
    schedule: ScheduleName = "linear"
    clip: Positive | None = 1.0
    precision: Literal["fp32", "tf32", "bf16", "fp64"] = "fp32"
    eval_batches: Count = 8

    @model_validator(mode="after")
    def warmup_ends(self) -> TrainSpec:
        refuse_long_warmup(self.warmup, self.steps)
        return self


class Range(Strict):
    """A geometric grid: from, from * 2^(1/per_octave), ... up to `to`."""

    start: Positive = Field(alias="from")
    to: Positive
    per_octave: Positive = 1.0

    @model_validator(mode="after")
    def ascending(self) -> Range:
        if self.to <= self.start:
            raise ValueError(f"`to` must be above `from`, found {self.start:g} to {self.to:g}")
        return self

    def values(self) -> tuple[float, ...]:
        octaves = math.log2(self.to / self.start)
        count = math.floor(octaves * self.per_octave + 1e-9) + 1
        # rounded exponents: a range that begins lower holds the same values, to the last bit
        first = math.log2(self.start)
        return tuple(2.0 ** round(first + k / self.per_octave, 9) for k in range(count))


def known_axes(axes: Any) -> Any:
    if isinstance(axes, dict):
        for name in axes:
            if name not in AXES:
                raise ValueError(f"unknown axis {str(name)!r}{nearest(str(name), AXES)}")
        if "lr" not in axes:
            raise ValueError("lr is missing; give its values (a list of one keeps it fixed)")
    return axes


def expand_range(values: Any) -> Any:
    if isinstance(values, dict):
        return Range.model_validate(values).values()
    if not isinstance(values, list | tuple):
        raise ValueError(f"expected a list or {{from, to, per_octave}}, found {values!r}")
    return values


def refuse_repeats(values: tuple[Value, ...]) -> tuple[Value, ...]:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{value:g} is listed twice, found {list(values)}")
    return values


def refuse_impossible(axes: dict[AxisName, tuple[float, ...]]) -> dict[AxisName, tuple[float, ...]]:
    for name, values in axes.items():
        for value in values:
            if value < 0 or (value == 0 and name != "weight_decay"):
                expected = "zero or positive" if name == "weight_decay" else "positive"
                raise ValueError(f"{name}: expected {expected} values, found {value:g}")
    return axes


AxisValues = Annotated[
    tuple[Number, ...],
    Field(min_length=1),
    BeforeValidator(expand_range),
    AfterValidator(refuse_repeats),
]
Axes = Annotated[
    dict[AxisName, AxisValues], BeforeValidator(known_axes), AfterValidator(refuse_impossible)
]


class SweepGrid(Strict):
    """Which trials to run: every width with every combination of axis values and every seed."""

    widths: Annotated[tuple[Count, ...], Field(min_length=1)]
    axes: Axes
    seeds: Annotated[tuple[Natural, ...], Field(min_length=1)] = (0,)

    @field_validator("widths", "seeds")
    @classmethod
    def distinct(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        return refuse_repeats(values)

    @field_validator("axes")
    @classmethod
    def identified(
        cls, axes: dict[AxisName, tuple[float, ...]]
    ) -> dict[AxisName, tuple[float, ...]]:
        if all(len(axes.get(name, ())) > 1 for name in ("lr", *MULT_AXES.values())):
            raise ValueError(
                "lr with all three lr_mult is unidentified: a common factor of the three is lr "
                "again; sweep at most two of them"
            )
        return axes


class SweepSpec(Strict):
    """A sweep: the protocol that its trials share, and the grid of trials.

    Attributes:
        deterministic: the same bits in every run on one kind of GPU, at some cost in speed; on a
            CPU they are in any case. No part of the protocol.
        diagnostics: when trials are measured in training; `off`: never. No part of the protocol.
    """

    schema_: Literal["mutransfer.sweep/1"] = Field(alias="schema")
    model: ModelSpec = TransformerSpec()
    data: DataSpec
    parameterization: ParameterizationSpec
    optimizer: OptimizerSpec = AdamWSpec()
    train: TrainSpec
    sweep: SweepGrid
    deterministic: bool = False
    diagnostics: Diagnostics = DiagnosticsSpec()

    @model_validator(mode="after")
    def heads_divide_widths(self) -> SweepSpec:
        self.refuse_width("parameterization.base_width", self.parameterization.base_width)
        for width in self.sweep.widths:
            self.refuse_width("sweep.widths", width)
        return self

    def refuse_width(self, key: str, width: int) -> None:
        """
        Raises:
            ValueError: a width that the built-in model cannot have; others say so when built.
        """
        if isinstance(self.model, TransformerSpec):
            self.model.refuse_width(key, width)

    @model_validator(mode="after")
    def rule_is_consistent(self) -> SweepSpec:
        self.parameterization.rule(self.optimizer)
        for axis in self.sweep.axes:
            role = axis.removeprefix("lr_mult.")
            if role in self.optimizer.lr_mult:
                raise ValueError(
                    f"sweep.axes.{axis}: is also fixed in optimizer.lr_mult.{role}; "
                    "leave one of them out"
                )
        return self

    @model_validator(mode="after")
    def decay_is_said(self) -> SweepSpec:
        decays = self.sweep.axes.get("weight_decay", ())
        if decays and isinstance(self.optimizer, AdamSpec):
            raise ValueError("sweep.axes.weight_decay: adam has none; use name: adamw")
        if decays and self.optimizer.weight_decay:
            raise ValueError(
                "sweep.axes.weight_decay: is also fixed in optimizer.weight_decay; "
                "leave one of them out"
            )
        if decays and self.parameterization.weight_decay == "none":
            raise ValueError(
                "sweep.axes.weight_decay: parameterization.weight_decay none decays nothing; give "
                "linear_width, sqrt_width, constant or an exponent"
            )
        if len(decays) > 1 and "decay_convention" not in self.parameterization.model_fields_set:
            raise ValueError(
                "parameterization.decay_convention: is needed where weight_decay varies; give "
                "lr_coupled (torch: w -= lr * wd * w) or independent (w -= schedule * wd * w)"
            )
        return self

    @property
    def middle_axes(self) -> dict[AxisName, float]:
        """Each axis at the middle of its values."""
        return {axis: sorted(values)[len(values) // 2] for axis, values in self.sweep.axes.items()}

    @property
    def attention_scale(self) -> AttentionScale | None:
        """Of the built-in model."""
        if not isinstance(self.model, TransformerSpec):
            return None
        if self.model.attention_scale is not None:
            return self.model.attention_scale
        by_width = self.parameterization.name in ("mup", "mean_field")
        return "1/d_head" if by_width else "1/sqrt(d_head)"
