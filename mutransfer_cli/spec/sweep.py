"""The sweep spec, `schema: mutransfer.sweep/1`, which users write."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from mutransfer_cli.explain import UnknownKey, shown
from mutransfer_cli.optim.adamw import AdamSpec, AdamWSpec
from mutransfer_cli.rules.plan import AXES, MULT_AXES, AxisName
from mutransfer_cli.rules.rule import refuse_tied
from mutransfer_cli.rules.schedule import DECAY_FRACTION, ScheduleName, decay_steps
from mutransfer_cli.spec.data import DataSpec, LinearTeacherData, OwnData
from mutransfer_cli.spec.decoder import AttentionScale, TransformerSpec
from mutransfer_cli.spec.measurements import Diagnostics, DiagnosticsSpec
from mutransfer_cli.spec.model import FactorySpec, FunctionSpec, MLPSpec, ModelSpec
from mutransfer_cli.spec.optimizers import OptimizerSpec
from mutransfer_cli.spec.parameterization import ParameterizationSpec
from mutransfer_cli.strict import (
    Count,
    Natural,
    NonNegative,
    Number,
    Positive,
    Share,
    Sparse,
    Strict,
)

SWEEP_SCHEMA = "mutransfer.sweep/1"
Value = TypeVar("Value", int, float)


def with_decay_fraction(train: Any) -> Any:
    """Add the default decay_fraction of schedule wsd."""
    if isinstance(train, dict) and train.get("schedule") == "wsd":
        return {"decay_fraction": DECAY_FRACTION} | train
    return train


def check_schedule(train: Any) -> Any:
    """Raise a ValueError unless warm-up and decay fit into the steps of a training section."""
    steps, warmup, fraction = train.steps, train.warmup, train.decay_fraction
    if warmup >= steps:
        raise ValueError(f"warmup must be below steps, found {warmup} of {steps}")
    if train.schedule != "wsd":
        if fraction is not None:
            raise ValueError("decay_fraction: belongs to schedule wsd; leave it out")
        return train
    if fraction is None:
        raise ValueError("decay_fraction: schedule wsd needs one; leave it out for 0.2")
    decay = decay_steps(steps, fraction)
    if not decay:
        raise ValueError(f"decay_fraction {fraction:g}: is less than a step of {steps}")
    if warmup + decay > steps:
        raise ValueError(
            f"decay_fraction {fraction:g}: its {decay} steps and a warmup of {warmup} do not "
            f"fit into {steps} steps"
        )
    return train


class TrainSpec(Sparse):
    """One training run."""

    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"decay_fraction", "z_loss"})

    steps: Count = Field(examples=[150])
    """Optimizer steps."""
    batch: Count = 8
    """Sequences per step, or samples per step."""
    context: Count = 64
    """Tokens per sequence; 1 for samples."""
    warmup: Natural = 0
    """Steps of linear warm-up."""
    schedule: ScheduleName = "linear"
    """Rate after warm-up: linear or cosine to zero, constant, or wsd: constant, then linear to
    zero."""
    decay_fraction: Share | None = None
    """Share of all steps in which schedule wsd decays; 0.2 by default."""
    clip: Positive | None = 1.0
    """Largest global norm of a trial's gradient, which is scaled down to it; null for no
    clipping."""
    precision: Literal["fp32", "tf32", "bf16", "fp64"] = "fp32"
    """fp32, tf32 (CUDA), bf16 autocast with fp32 weights, or fp64 for comparisons."""
    eval_batches: Count = 8
    """Number of evaluation batches, the same for every trial."""
    z_loss: NonNegative = 0.0
    """Factor of an extra loss, the mean of log(Z)^2, where Z is the sum of exp(logit) at a token
    (1e-4 in Chowdhery et al. 2022, arXiv 2204.02311); reported losses are the cross-entropy."""

    wsd_decays = model_validator(mode="before")(with_decay_fraction)
    schedule_fits = model_validator(mode="after")(check_schedule)


class Range(Strict):
    """A geometric grid: from, from * 2^(1/per_octave), ..., up to `to`."""

    start: Positive = Field(alias="from", examples=["2^-9"])
    """The first value."""
    to: Positive = Field(examples=["2^-3"])
    """Upper bound of the values."""
    per_octave: Positive = 1.0
    """Values per doubling."""

    @model_validator(mode="after")
    def ascending(self) -> Range:
        if self.to <= self.start:
            raise ValueError(f"`to` must be above `from`, found {self.start:g} to {self.to:g}")
        return self

    def values(self) -> tuple[float, ...]:
        """All values, ascending."""
        octaves = math.log2(self.to / self.start)
        count = math.floor(octaves * self.per_octave + 1e-9) + 1
        # exponents are rounded so that a range that begins lower has the same values exactly
        first = math.log2(self.start)
        return tuple(2.0 ** round(first + k / self.per_octave, 9) for k in range(count))


def _known_axes(axes: Any) -> Any:
    if isinstance(axes, dict):
        for name in axes:
            if name not in AXES:
                raise UnknownKey(name, AXES, "axis")
        if "lr" not in axes:
            raise ValueError("lr is missing; give its values (a list of one keeps it fixed)")
    return axes


def _expand_range(values: Any) -> Any:
    if isinstance(values, dict):
        return Range.model_validate(values).values()
    if not isinstance(values, list | tuple):
        raise ValueError(f"expected a list or {{from, to, per_octave}}, found {shown(values)}")
    return values


def _refuse_repeats(values: tuple[Value, ...]) -> tuple[Value, ...]:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{value:g} is listed twice, found {shown(values)}")
    return values


def _check_axes(axes: dict[AxisName, tuple[float, ...]]) -> dict[AxisName, tuple[float, ...]]:
    for name, values in axes.items():
        least = min(values)
        if least < 0 or (least == 0 and name != "weight_decay"):
            expected = "zero or positive" if name == "weight_decay" else "positive"
            raise ValueError(f"{name}: expected {expected} values, found {least:g}")
    if all(len(axes.get(name, ())) > 1 for name in ("lr", *MULT_AXES.values())):
        raise ValueError(
            "lr with all three lr_mult is unidentified: a common factor of the three is lr again; "
            "sweep at most two of them"
        )
    return axes


Distinct = AfterValidator(_refuse_repeats)
ListedValues = Annotated[tuple[Number, ...], Field(min_length=1)]
AxisValues = Annotated[
    ListedValues,
    BeforeValidator(_expand_range, json_schema_input_type=ListedValues | Range),
    Distinct,
]
Axes = Annotated[
    dict[AxisName, AxisValues],
    BeforeValidator(_known_axes),
    AfterValidator(_check_axes),
    Field(
        json_schema_extra={"required": ["lr"]},
        examples=[{"lr": {"from": "2^-9", "to": "2^-3"}}],
    ),
]


class SweepGrid(Strict):
    """The trials to run: every width with every combination of axis values and every seed."""

    widths: Annotated[tuple[Count, ...], Field(min_length=1), Distinct] = Field(
        examples=[[32, 64, 128]]
    )
    """Model widths, in features."""
    axes: Axes
    """Values at the base width by hyperparameter, a list or {from, to, per_octave}: lr, the peak
    rate per step; weight_decay, in the convention of `parameterization.decay_convention`;
    lr_mult.ROLE, the factor on the rate of a role."""
    seeds: Annotated[tuple[Natural, ...], Field(min_length=1), Distinct] = Field(
        (0,), examples=[[0, 1]]
    )
    """Seeds of init and of the order of the data."""

    @property
    def size(self) -> int:
        """The number of trials."""
        return len(self.widths) * len(self.seeds) * math.prod(map(len, self.axes.values()))


class SweepSpec(Strict):
    """A sweep: the protocol that its trials share, and the grid of trials."""

    schema_: Literal["mutransfer.sweep/1"] = Field(alias="schema")
    """Format and version of this file."""
    model: ModelSpec = TransformerSpec()
    """Model to train: the built-in decoder or perceptron, a function, or a Hugging Face config."""
    data: DataSpec = Field(examples=[{"source": "stdlib"}])
    """Data for training and evaluation."""
    parameterization: ParameterizationSpec = Field(examples=[{"name": "mup", "base_width": 32}])
    """How init, multipliers, learning rate, weight decay and eps scale with width."""
    optimizer: OptimizerSpec = Field(AdamWSpec(), examples=[{"name": "adamw"}])
    """Optimizer and its values at the base width."""
    train: TrainSpec = Field(examples=[{"steps": 150}])
    """One training run."""
    sweep: SweepGrid = Field(
        examples=[{"widths": [32, 64, 128], "axes": {"lr": {"from": "2^-9", "to": "2^-3"}}}]
    )
    """The grid of trials."""
    loss: FunctionSpec | None = None
    """The user's own loss of the samples of data.factory, a function of the model's outputs and the
    batch; without it the model returns the loss."""
    deterministic: bool = False
    """Compute the same bits in every run on one kind of GPU, at some cost in speed; a CPU always
    does. Not part of the protocol."""
    diagnostics: Diagnostics = DiagnosticsSpec()
    """When trials are measured in training; `off` for never. Not part of the protocol."""

    @model_validator(mode="before")
    @classmethod
    def samples_have_no_context(cls, raw: Any) -> Any:
        data, train = (raw.get("data"), raw.get("train")) if isinstance(raw, dict) else (0, 0)
        has_samples = isinstance(data, dict) and (
            data.get("source") == "linear_teacher" or "factory" in data
        )
        if has_samples and isinstance(train, dict):
            return raw | {"train": {"context": 1} | train}
        return raw

    @model_validator(mode="after")
    def model_reads_data(self) -> SweepSpec:
        model, data = self.model, self.data
        if isinstance(data, OwnData):
            return self.own_model_reads_own_data()
        if self.loss is not None:
            raise ValueError(
                "loss: is for the samples of data.factory; a model of tokens may return its own "
                "loss if its forward takes the targets"
            )
        if not isinstance(data, LinearTeacherData):
            if isinstance(model, MLPSpec):
                raise ValueError(
                    f"data.source: {data.source} has tokens, and family mlp reads samples; give "
                    "linear_teacher, or another model"
                )
            return self
        if not isinstance(model, MLPSpec):
            raise ValueError(
                "data.source: linear_teacher has samples, and the model reads tokens; give model "
                "{family: mlp}, or other data (markov has synthetic tokens)"
            )
        model.refuse_sizes(data.inputs, data.outputs)
        if self.train.z_loss:
            raise ValueError("train.z_loss: needs logits, and an mlp has none; leave it out")
        self.samples_are_not_sequences()
        return self

    def own_model_reads_own_data(self) -> SweepSpec:
        """Raise a ValueError for samples that the model or the training cannot read."""
        if not isinstance(self.model, FactorySpec):
            raise ValueError(
                "data.factory: only a function knows how its samples are read; give model "
                "{factory: package.module:function}"
            )
        if self.train.z_loss:
            raise ValueError("train.z_loss: needs logits of tokens; leave it out")
        self.samples_are_not_sequences()
        return self

    def samples_are_not_sequences(self) -> None:
        """Raise a ValueError if samples are given a context."""
        if self.train.context != 1:
            raise ValueError(
                f"train.context: found {self.train.context}, and samples are not sequences; leave "
                "it out"
            )

    @model_validator(mode="after")
    def heads_divide_widths(self) -> SweepSpec:
        self.refuse_width("parameterization.base_width", self.parameterization.base_width)
        for width in self.sweep.widths:
            self.refuse_width("sweep.widths", width)
        return self

    def refuse_width(self, key: str, width: int) -> None:
        """Raise a ValueError for a width that the built-in model cannot have."""
        if isinstance(self.model, TransformerSpec):
            self.model.refuse_width(key, width)

    @model_validator(mode="after")
    def rule_is_consistent(self) -> SweepSpec:
        rule = self.parameterization.rule(self.optimizer)
        if isinstance(self.model, TransformerSpec) and self.model.tied_embeddings:
            refuse_tied(rule, has_output_multiplier=False)
        for axis in self.sweep.axes:
            role = axis.removeprefix("lr_mult.")
            if role in self.optimizer.lr_mult:
                raise ValueError(
                    f"sweep.axes.{axis}: is also fixed in optimizer.lr_mult.{role}; "
                    "leave one of them out"
                )
        return self

    @model_validator(mode="after")
    def decay_is_given_once(self) -> SweepSpec:
        decays = self.sweep.axes.get("weight_decay", ())
        if not decays:
            return self
        if isinstance(self.optimizer, AdamSpec):
            raise ValueError("sweep.axes.weight_decay: adam has none; use name: adamw")
        if self.optimizer.weight_decay:
            raise ValueError(
                "sweep.axes.weight_decay: is also fixed in optimizer.weight_decay; "
                "leave one of them out"
            )
        if self.parameterization.weight_decay == "none":
            raise ValueError(
                "sweep.axes.weight_decay: parameterization.weight_decay none decays nothing; give "
                "linear_width, sqrt_width, constant or an exponent"
            )
        if len(decays) > 1 and "decay_convention" not in self.parameterization.model_fields_set:
            raise ValueError(
                "parameterization.decay_convention: is needed if weight_decay varies; give "
                "lr_coupled (torch: w -= lr * wd * w) or independent (w -= schedule * wd * w)"
            )
        return self

    @property
    def middle_axes(self) -> dict[AxisName, float]:
        """The middle value of each axis."""
        return {axis: sorted(values)[len(values) // 2] for axis, values in self.sweep.axes.items()}

    @property
    def attention_scale(self) -> AttentionScale | None:
        """The factor on q.k of the built-in model; None for other models."""
        if not isinstance(self.model, TransformerSpec):
            return None
        if self.model.attention_scale is not None:
            return self.model.attention_scale
        by_width = self.parameterization.name in ("mup", "mean_field")
        return "1/d_head" if by_width else "1/sqrt(d_head)"
