"""Protocols: everything that the trials of a sweep share, as trained or as declared by a user.

A declared protocol is a file, `schema: mutransfer.protocol/1`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from mutransfer_cli.errors import InputError
from mutransfer_cli.optim.adamw import AdamSpec
from mutransfer_cli.rules.choices import MatrixRole
from mutransfer_cli.rules.plan import AxisName, BaseParameter, PlannedParameter, Shapes
from mutransfer_cli.rules.rule import Rule
from mutransfer_cli.rules.schedule import ScheduleName
from mutransfer_cli.rules.weight_decay import DecayConvention
from mutransfer_cli.spec.data import AnyData, DataProtocol, LinearTeacherData, OwnDataProtocol
from mutransfer_cli.spec.decoder import Architecture, AttentionScale, ModelProtocol
from mutransfer_cli.spec.model import (
    AnyModel,
    FactoryProtocol,
    FactorySpec,
    FunctionSpec,
    HfProtocol,
    HfSpec,
    MLPProtocol,
    MLPSpec,
)
from mutransfer_cli.spec.optimizers import OptimizerSpec
from mutransfer_cli.spec.parameterization import ParameterizationSpec
from mutransfer_cli.spec.sweep import SweepSpec, TrainSpec, check_schedule, with_decay_fraction
from mutransfer_cli.spec.yaml_io import content_hash, load_yaml, read_text
from mutransfer_cli.strict import (
    Count,
    Natural,
    NonNegative,
    Positive,
    Share,
    Sparse,
    Strict,
    validated,
)

PROTOCOL_SCHEMA = "mutransfer.protocol/1"
HERE = Path()


class DeclaredModel(Sparse):
    """The model behind a user's own results, as far as it is known; the same at all widths."""

    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"init_std"})

    depth: Count | None = None
    """Number of blocks."""
    head_size: Count | None = None
    """d_head, the width of a head."""
    vocab: Count | None = None
    """Vocabulary size."""
    attention_scale: AttentionScale | None = None
    """Factor on q.k."""
    init_std: dict[MatrixRole, NonNegative] | None = None
    """Init std of every matrix of a role at the base width: {embedding: 0.02, hidden: 0.02,
    readout: 0.02}. Files for trainers need it."""


class DeclaredTrain(Sparse):
    """The training behind a user's own results; keys as in a sweep spec."""

    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"decay_fraction"})

    batch: Count = Field(examples=[8])
    """Sequences per step."""
    steps: Count = Field(examples=[150])
    """Optimizer steps."""
    context: Count | None = None
    """Tokens per sequence; 1 for samples."""
    warmup: Natural = 0
    """Steps of linear warm-up."""
    schedule: ScheduleName | None = None
    """Rate after warm-up: linear or cosine to zero, constant, or wsd: constant, then linear to
    zero."""
    decay_fraction: Share | None = None
    """Share of all steps in which schedule wsd decays; 0.2 by default."""
    clip: Positive | None = None
    """Largest global norm of a gradient, which is scaled down to it; null for no clipping."""
    precision: str | None = None
    """Precision of the forward and backward pass, in any words."""

    wsd_decays = model_validator(mode="before")(with_decay_fraction)
    schedule_fits = model_validator(mode="after")(check_schedule)


class DeclaredProtocol(Sparse):
    """How runs were scaled with width and trained, as a table of results does not hold it."""

    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"weight_decay_values"})
    ELSEWHERE: ClassVar[dict[str, str]] = {
        "lr": "the column lr of the table",
        "widths": "the column width of the table",
        "seeds": "the column seed of the table",
    }

    schema_: Literal["mutransfer.protocol/1"] = Field(alias="schema")
    """Format and version of this file."""
    parameterization: ParameterizationSpec = Field(examples=[{"name": "mup", "base_width": 32}])
    """The rule that the runs followed; lr of the table is its value at `base_width`. A rule of
    weight decay counts only with `weight_decay_values`."""
    weight_decay_values: Literal["base", "applied"] | None = None
    """Weight decays of the table: base, values at `base_width`, or applied, what the optimizer got
    for hidden matrices at the row's width. Without it, weight decay is not scaled with width."""
    optimizer: OptimizerSpec = Field(examples=[{"name": "adamw"}])
    """Optimizer and its values at the base width; weight_decay applies if the table has no such
    column."""
    train: DeclaredTrain = Field(examples=[{"steps": 150, "batch": 8}])
    """How the runs were trained."""
    model: DeclaredModel = DeclaredModel()
    """What is known of the model."""

    @model_validator(mode="after")
    def values_have_a_rule(self) -> DeclaredProtocol:
        values = self.weight_decay_values
        if values and "weight_decay" not in self.parameterization.model_fields_set:
            raise ValueError(
                f"weight_decay_values {values}: parameterization.weight_decay names no rule by "
                "which they change with width; give it, such as linear_width or constant"
            )
        return self

    @property
    def given_convention(self) -> DecayConvention | None:
        """The decay convention, if the file gives one."""
        given = "decay_convention" in self.parameterization.model_fields_set
        return self.parameterization.decay_convention if given else None

    @property
    def scales_decay(self) -> bool:
        """Whether the file says how weight decay changes with width, be it not at all."""
        unscaled = self.parameterization.weight_decay in ("none", "constant")
        return unscaled or self.weight_decay_values is not None

    @property
    def scaling(self) -> ParameterizationSpec:
        """The section to apply: without a declared change, weight decay stays as it is."""
        if self.scales_decay:
            return self.parameterization
        return self.parameterization.model_copy(update={"weight_decay": "constant"})

    @property
    def rule(self) -> Rule:
        declared = self.parameterization.rule(self.optimizer)
        return declared if self.scales_decay else replace(declared, weight_decay="constant")

    @property
    def hash(self) -> str:
        return content_hash(self.model_dump(mode="json", by_alias=True))


def load_protocol(path: Path, decay_convention: DecayConvention | None) -> DeclaredProtocol:
    """Read a protocol, completed by the user's convention of weight decay.

    Args:
        decay_convention: given by the user in addition to the file.

    Raises:
        InputError: an invalid file, or one that contradicts the convention.
    """
    protocol = validated(DeclaredProtocol, load_yaml(read_text(path), str(path)), str(path))
    given = protocol.given_convention
    if given and decay_convention and given != decay_convention:
        raise InputError(
            f"decay_convention {decay_convention}: {path} says {given}; leave the option out",
            setting="decay_convention",
        )
    if not decay_convention:
        return protocol
    content = protocol.model_dump(by_alias=True, exclude_unset=True)
    content["parameterization"]["decay_convention"] = decay_convention
    return validated(DeclaredProtocol, content, str(path))


def completed(
    protocol: DeclaredProtocol, path: Path, weight_decay: float | None, decay_varies: bool
) -> DeclaredProtocol:
    """The protocol with the weight decay of the table.

    Args:
        path: its file.
        weight_decay: the base value of all rows; None if it varies or has no column.
        decay_varies: whether it varies in the table.

    Raises:
        InputError: the file contradicts the table.
    """
    rule, optimizer = protocol.parameterization, protocol.optimizer
    fixed = optimizer.weight_decay
    if weight_decay is not None and fixed and not math.isclose(fixed, weight_decay):
        converted = " as its base value" if protocol.weight_decay_values == "applied" else ""
        raise InputError(
            f"{path}: optimizer.weight_decay is {fixed:g} and every row of the table has "
            f"{weight_decay:g}{converted}; correct one of them"
        )
    if decay_varies and fixed:
        raise InputError(
            f"{path}: optimizer.weight_decay is {fixed:g} and the rows of the table differ in it; "
            "leave it out"
        )
    if decay_varies and (rule.weight_decay == "none" or isinstance(optimizer, AdamSpec)):
        what = "parameterization.weight_decay none" if rule.weight_decay == "none" else "adam"
        raise InputError(f"{path}: {what} has no decay, and weight_decay varies in the table")
    content = protocol.model_dump(by_alias=True, exclude_unset=True)
    if weight_decay:
        content["optimizer"]["weight_decay"] = weight_decay
    return validated(DeclaredProtocol, content, str(path))


class Protocol(Sparse):
    """Everything that the trials of a sweep share."""

    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"loss"})

    model: AnyModel
    """Model with every default resolved."""
    data: AnyData
    """Data that were read, or how samples are generated."""
    parameterization: ParameterizationSpec
    """How init, multipliers, learning rate, weight decay and eps scale with width."""
    optimizer: OptimizerSpec
    """Optimizer and its values at the base width."""
    train: TrainSpec
    """One training run."""
    loss: FunctionSpec | None = None
    """The user's own function of outputs and batch; absent if the model returns the loss."""

    @classmethod
    def of(cls, spec: SweepSpec, data: AnyData, vocab: int | None, folder: Path = HERE) -> Protocol:
        """The protocol of a spec and its data; `vocab` and `folder` as in `model_protocol`."""
        return cls(
            model=model_protocol(spec, vocab, folder),
            data=data,
            parameterization=spec.parameterization,
            optimizer=spec.optimizer,
            train=spec.train,
            loss=spec.loss,
        )

    @property
    def hash(self) -> str:
        return content_hash(self.model_dump(mode="json"))

    @property
    def scales_decay(self) -> bool:
        """Always: the base weight decay of every trial was scaled by the rule."""
        return True

    @property
    def scaling(self) -> ParameterizationSpec:
        """The section to apply, as it is written."""
        return self.parameterization

    @property
    def rule(self) -> Rule:
        return self.parameterization.rule(self.optimizer)

    @property
    def loss_unit(self) -> str:
        """The unit of train_loss and eval_loss; `loss` where only the user knows it."""
        if isinstance(self.data, OwnDataProtocol):
            return "loss"
        return "nats" if isinstance(self.data, DataProtocol) else "mse"

    @property
    def batch_tokens(self) -> int:
        """Tokens, or samples, per step."""
        return self.train.batch * self.train.context

    def plan(
        self,
        base_plan: Sequence[BaseParameter],
        width: int,
        axes: Mapping[AxisName, float],
        shapes: Shapes | None = None,
    ) -> tuple[PlannedParameter, ...]:
        """Apply the rule to the model: the only way from a protocol to hyperparameters."""
        return self.parameterization.plan(self.optimizer, base_plan, width, axes, shapes=shapes)


def model_protocol(spec: SweepSpec, vocab: int | None, folder: Path) -> AnyModel:
    """The model of a spec with every default resolved.

    Args:
        vocab: vocabulary size of the data; None if they are samples.
        folder: the folder of the spec, from which its paths count.
    """
    model, data = spec.model, spec.data
    if isinstance(model, MLPSpec):
        assert isinstance(data, LinearTeacherData), "a spec with other data is refused"
        return MLPProtocol(**dict(model) | {"inputs": data.inputs, "outputs": data.outputs})
    if isinstance(model, FactorySpec):
        return FactoryProtocol(**dict(model), vocab=vocab)
    assert vocab is not None, "a model of tokens has data of tokens"
    if isinstance(model, HfSpec):
        config = model.config(folder)
        return HfProtocol(
            hf=config,
            untie=model.untie,
            roles=model.roles,
            own_multipliers=model.own_multipliers,
            vocab=vocab,
            sizes=model.sizes(),
        )
    scale = spec.attention_scale
    assert scale is not None, "the built-in model has one"
    options = {key: getattr(model, key) for key in Architecture.model_fields}
    return ModelProtocol(**options, family=model.family, vocab=vocab, attention_scale=scale)


def difference(there: Strict, here: Strict) -> str:
    """List the differences of two protocols: `train.steps: 100 there, 200 here; ...`."""
    old, new = _flat(there.model_dump(mode="json")), _flat(here.model_dump(mode="json"))
    return "; ".join(
        f"{key}: {old.get(key, 'absent')} there, {new.get(key, 'absent')} here"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    )


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(data, dict):
        return {prefix: data}
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else key)
    return flat
