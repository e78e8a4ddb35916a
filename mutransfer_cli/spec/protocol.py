"""Protocols: everything that the trials of a sweep share, as trained or as declared by a user.

Declared ones are files, `schema: mutransfer.protocol/1`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from mutransfer_cli.errors import InputError
from mutransfer_cli.optim.adamw import AdamSpec
from mutransfer_cli.rules.plan import AxisName, BaseParameter, PlannedParameter, Shapes
from mutransfer_cli.rules.rule import Rule
from mutransfer_cli.rules.schedule import ScheduleName
from mutransfer_cli.rules.weight_decay import DecayConvention
from mutransfer_cli.spec.data import AnyData, DataProtocol, LinearTeacherData
from mutransfer_cli.spec.decoder import Architecture, AttentionScale, ModelProtocol
from mutransfer_cli.spec.model import (
    AnyModel,
    FactoryProtocol,
    FactorySpec,
    HfProtocol,
    HfSpec,
    MLPProtocol,
    MLPSpec,
)
from mutransfer_cli.spec.optimizers import OptimizerSpec
from mutransfer_cli.spec.parameterization import ParameterizationSpec
from mutransfer_cli.spec.sweep import SweepSpec, TrainSpec, refuse_schedule, with_decay_fraction
from mutransfer_cli.spec.yaml_io import content_hash, load_yaml, read_text
from mutransfer_cli.strict import Count, Grown, Natural, Positive, Share, Strict, validated

PROTOCOL_SCHEMA = "mutransfer.protocol/1"


class DeclaredModel(Strict):
    """The model of own results, as far as it is said; it stays the same at all widths."""

    depth: Count | None = None
    """Number of blocks."""
    head_size: Count | None = None
    """d_head, the width of a head."""
    vocab: Count | None = None
    """Tokens in the vocabulary."""
    attention_scale: AttentionScale | None = None
    """Factor on q.k."""


class DeclaredTrain(Grown):
    """The training of own results; keys as in a sweep spec."""

    LATER: ClassVar[frozenset[str]] = frozenset({"decay_fraction"})

    batch: Count
    """Sequences per step."""
    steps: Count
    """Optimizer steps."""
    context: Count | None = None
    """Tokens per sequence; 1 for samples."""
    warmup: Natural = 0
    """Steps of linear warm-up."""
    schedule: ScheduleName | None = None
    """What follows: linear or cosine to zero, constant, or wsd: constant, then linear to zero."""
    decay_fraction: Share | None = None
    """Of wsd, the share of all steps in which it decays; 0.2 unless said."""
    clip: Positive | None = None
    """Global gradient norm of a trial above which its gradient is scaled down; null is off."""
    precision: str | None = None
    """Of the forward and backward pass, in one's own words."""

    @model_validator(mode="before")
    @classmethod
    def wsd_decays(cls, train: Any) -> Any:
        return with_decay_fraction(train)

    @model_validator(mode="after")
    def schedule_fits(self) -> DeclaredTrain:
        refuse_schedule(self.steps, self.warmup, self.schedule, self.decay_fraction)
        return self


class DeclaredProtocol(Strict):
    """What a fit of own results cannot know: how the runs were scaled with width, and trained."""

    schema_: Literal["mutransfer.protocol/1"] = Field(alias="schema")
    """The format of this file, and its version."""
    parameterization: ParameterizationSpec
    """The rule that the runs followed; lr and weight decay of the table are the base values, those
    of `base_width`."""
    optimizer: OptimizerSpec
    """Its base values; weight_decay counts where the table has no such column."""
    train: DeclaredTrain
    """How the runs were trained."""
    model: DeclaredModel = DeclaredModel()
    """What is known of the model."""

    @property
    def said_convention(self) -> DecayConvention | None:
        """The decay convention, where the file says it."""
        said = "decay_convention" in self.parameterization.model_fields_set
        return self.parameterization.decay_convention if said else None

    @property
    def rule(self) -> Rule:
        return self.parameterization.rule(self.optimizer)

    @property
    def hash(self) -> str:
        return content_hash(self.model_dump(mode="json", by_alias=True))


def load_protocol(
    path: Path,
    weight_decay: float | None,
    decay_varies: bool,
    convention: DecayConvention | None,
) -> DeclaredProtocol:
    """The protocol, with what the table and the command line say of weight decay written into it.

    Args:
        weight_decay: of all rows of the table; None where it varies or has no column.
        convention: as an option says.

    Raises:
        InputError: the file, or one that contradicts the table or the option.
    """
    protocol = validated(DeclaredProtocol, load_yaml(read_text(path), str(path)), str(path))
    section, optimizer, said = (
        protocol.parameterization,
        protocol.optimizer,
        protocol.said_convention,
    )
    if said and convention and said != convention:
        raise InputError(
            f"--decay-convention {convention}: {path} says {said}; leave the option out"
        )
    if weight_decay is not None and optimizer.weight_decay not in (0, weight_decay):
        raise InputError(
            f"{path}: optimizer.weight_decay is {optimizer.weight_decay:g} and every row of the "
            f"table has {weight_decay:g}; correct one of them"
        )
    if decay_varies and optimizer.weight_decay:
        raise InputError(
            f"{path}: optimizer.weight_decay is {optimizer.weight_decay:g} and the rows of "
            "the table differ in it; leave it out"
        )
    if decay_varies and (section.weight_decay == "none" or isinstance(optimizer, AdamSpec)):
        what = "parameterization.weight_decay none" if section.weight_decay == "none" else "adam"
        raise InputError(f"{path}: {what} has no decay, and weight_decay varies in the table")
    content = protocol.model_dump(by_alias=True, exclude_unset=True)
    if convention:
        content["parameterization"]["decay_convention"] = convention
    if weight_decay:
        content["optimizer"]["weight_decay"] = weight_decay
    return validated(DeclaredProtocol, content, str(path))


HERE = Path()


def model_protocol(spec: SweepSpec, vocab: int | None, folder: Path) -> AnyModel:
    """The model of a spec with every default resolved.

    Args:
        vocab: of the data; None where they are samples.
        folder: the spec's, from which its paths count.
    """
    model, data = spec.model, spec.data
    if isinstance(model, MLPSpec):
        assert isinstance(data, LinearTeacherData), "a spec with others is refused"
        sizes = {"inputs": data.inputs, "outputs": data.outputs}
        return MLPProtocol(**dict(model) | sizes)
    assert vocab is not None, "models of tokens have data of tokens"
    if isinstance(model, FactorySpec):
        return FactoryProtocol(**dict(model), vocab=vocab)
    if isinstance(model, HfSpec):
        config = model.config(folder)
        return HfProtocol(hf=config, untie=model.untie, roles=model.roles, vocab=vocab)
    scale = spec.attention_scale
    assert scale is not None, "the built-in model has one"
    options = {key: getattr(model, key) for key in Architecture.model_fields}
    return ModelProtocol(**options, family=model.family, vocab=vocab, attention_scale=scale)


class Protocol(Strict):
    """All that a trial shares with its sweep."""

    model: AnyModel
    """With every default resolved."""
    data: AnyData
    """What was read, or how samples are generated."""
    parameterization: ParameterizationSpec
    """How everything goes with width."""
    optimizer: OptimizerSpec
    """Its base values, those at the base width."""
    train: TrainSpec
    """One training run."""

    @classmethod
    def of(cls, spec: SweepSpec, data: AnyData, vocab: int | None, folder: Path = HERE) -> Protocol:
        return cls(
            model=model_protocol(spec, vocab, folder),
            data=data,
            parameterization=spec.parameterization,
            optimizer=spec.optimizer,
            train=spec.train,
        )

    @property
    def hash(self) -> str:
        return content_hash(self.model_dump(mode="json"))

    @property
    def rule(self) -> Rule:
        return self.parameterization.rule(self.optimizer)

    @property
    def loss_unit(self) -> str:
        """Of train_loss and eval_loss."""
        return "nats" if isinstance(self.data, DataProtocol) else "mse"

    def plan(
        self,
        base_plan: Sequence[BaseParameter],
        width: int,
        axes: Mapping[AxisName, float],
        shapes: Shapes | None = None,
    ) -> tuple[PlannedParameter, ...]:
        """The rule applied to the model: the only way from a protocol to hyperparameters."""
        return self.parameterization.plan(self.optimizer, base_plan, width, axes, shapes=shapes)

    @property
    def batch_tokens(self) -> int:
        return self.train.batch * self.train.context


def difference(there: Strict, here: Strict) -> str:
    """What differs between two protocols: `train.steps: 100 there, 200 here; ...`."""
    old, new = _flat(there.model_dump(mode="json")), _flat(here.model_dump(mode="json"))
    changed = [
        f"{key}: {old.get(key, 'absent')} there, {new.get(key, 'absent')} here"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    return "; ".join(changed)


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(data, dict):
        return {prefix: data}
    flat: dict[str, Any] = {}
    for key, value in data.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else key)
    return flat
