"""The sweep spec, `schema: mutransfer.sweep/1`: what the user writes."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from mutransfer_cli.files.strict import Count, Natural, NonNegative, Number, Positive, Strict
from mutransfer_cli.rules.exponents import ParameterizationName

Value = TypeVar("Value", int, float)
AttentionScale = Literal["1/d_head", "1/sqrt(d_head)"]


class ModelSpec(Strict):
    """The proxy; its width is swept, everything here stays fixed.

    Attributes:
        family: the built-in decoder transformer.
        depth: number of blocks.
        head_size: d_head; fixed, so that width grows by heads.
        attention_scale: factor on q.k. Default 1/d_head under mup (Lingle 2024, arXiv 2404.05728),
            1/sqrt(d_head) under standard.
    """

    family: Literal["transformer"] = "transformer"
    depth: Count = 2
    head_size: Count = 16
    attention_scale: AttentionScale | None = None

    @field_validator("head_size")
    @classmethod
    def even(cls, head_size: int) -> int:
        if head_size % 2:
            raise ValueError(f"must be even for rotary positions, found {head_size}")
        return head_size


class StdlibData(Strict):
    """The text of Python's own standard library."""

    source: Literal["stdlib"]
    eval_fraction: Annotated[Number, Field(gt=0, lt=1)] = 0.1


class TextData(Strict):
    """A file, or all files of a folder sorted by path (hidden ones left out), read as bytes."""

    source: Literal["text"]
    path: str
    eval_fraction: Annotated[Number, Field(gt=0, lt=1)] = 0.1


DataSpec = Annotated[StdlibData | TextData, Field(discriminator="source")]


class ParameterizationSpec(Strict):
    """Attributes: base_width is the width at which every parameterization is the plain model."""

    name: ParameterizationName
    base_width: Count


class OptimizerSpec(Strict):
    """AdamW. `weight_decay` is lr-coupled as in torch (w -= lr * weight_decay * w)."""

    name: Literal["adamw"] = "adamw"
    betas: tuple[NonNegative, NonNegative] = (0.9, 0.95)
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.0

    @field_validator("betas")
    @classmethod
    def below_one(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if max(betas) >= 1:
            raise ValueError(f"each must be below 1, found {list(betas)}")
        return betas


class TrainSpec(Strict):
    """One training run.

    Attributes:
        steps: optimizer steps.
        batch: sequences per step.
        context: tokens per sequence.
        warmup: steps of linear warm-up.
        schedule: what follows: linear or cosine to zero, or constant.
        clip: global gradient norm of a trial above which its gradient is scaled down; null is off.
        precision: fp32, tf32 (CUDA), or bf16 autocast with fp32 weights.
        eval_batches: batches of the eval part, the same for every trial.
    """

    steps: Count
    batch: Count = 8
    context: Count = 64
    warmup: Natural = 0
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    clip: Positive | None = 1.0
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"
    eval_batches: Count = 8

    @model_validator(mode="after")
    def warmup_ends(self) -> TrainSpec:
        if self.warmup >= self.steps:
            raise ValueError(f"warmup must be below steps, found {self.warmup} of {self.steps}")
        return self


class LrRange(Strict):
    """A geometric grid: from, from * 2^(1/per_octave), ... up to `to`."""

    start: Positive = Field(alias="from")
    to: Positive
    per_octave: Positive = 1.0

    @model_validator(mode="after")
    def ascending(self) -> LrRange:
        if self.to <= self.start:
            raise ValueError(f"`to` must be above `from`, found {self.start:g} to {self.to:g}")
        return self

    def values(self) -> tuple[float, ...]:
        octaves = math.log2(self.to / self.start)
        count = math.floor(octaves * self.per_octave + 1e-9) + 1
        # rounded exponents: a range that begins lower holds the same rates, to the last bit
        first = math.log2(self.start)
        return tuple(2.0 ** round(first + k / self.per_octave, 9) for k in range(count))


class Axes(Strict):
    """The swept base hyperparameters."""

    lr: Annotated[tuple[Positive, ...], Field(min_length=1)]

    @field_validator("lr", mode="before")
    @classmethod
    def expand_range(cls, lr: Any) -> Any:
        if isinstance(lr, dict):
            return LrRange.model_validate(lr).values()
        if not isinstance(lr, list | tuple):
            raise ValueError(
                f"expected a list or {{from, to, per_octave}}, found {lr!r}",
            )
        return lr

    @field_validator("lr")
    @classmethod
    def distinct(cls, lr: tuple[float, ...]) -> tuple[float, ...]:
        return refuse_repeats(lr)


class SweepGrid(Strict):
    """Which trials to run: every width with every axis value and every seed."""

    widths: Annotated[tuple[Count, ...], Field(min_length=1)]
    axes: Axes
    seeds: Annotated[tuple[Natural, ...], Field(min_length=1)] = (0,)

    @field_validator("widths", "seeds")
    @classmethod
    def distinct(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        return refuse_repeats(values)


def refuse_repeats(values: tuple[Value, ...]) -> tuple[Value, ...]:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{value:g} is listed twice, found {list(values)}")
    return values


class SweepSpec(Strict):
    """A sweep: the protocol that its trials share, and the grid of trials."""

    schema_: Literal["mutransfer.sweep/1"] = Field(alias="schema")
    model: ModelSpec = ModelSpec()
    data: DataSpec
    parameterization: ParameterizationSpec
    optimizer: OptimizerSpec = OptimizerSpec()
    train: TrainSpec
    sweep: SweepGrid

    @model_validator(mode="after")
    def heads_divide_widths(self) -> SweepSpec:
        head_size = self.model.head_size
        for key, width in [
            ("parameterization.base_width", self.parameterization.base_width),
            *(("sweep.widths", width) for width in self.sweep.widths),
        ]:
            if width % head_size:
                below, above = width // head_size * head_size, -(-width // head_size) * head_size
                choice = f"{below} or {above}" if below else f"{above}"
                raise ValueError(
                    f"{key}: found {width}, which model.head_size {head_size} does not divide; "
                    f"use {choice}"
                )
        return self

    @property
    def attention_scale(self) -> AttentionScale:
        if self.model.attention_scale is not None:
            return self.model.attention_scale
        return "1/d_head" if self.parameterization.name == "mup" else "1/sqrt(d_head)"
