"""What a user declares of own results, `schema: mutransfer.protocol/1`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from mutransfer_cli.errors import InputError
from mutransfer_cli.rules.rule import Rule
from mutransfer_cli.rules.schedule import ScheduleName
from mutransfer_cli.rules.weight_decay import DecayConvention
from mutransfer_cli.spec.decoder import AttentionScale
from mutransfer_cli.spec.optimizers import AdamSpec, OptimizerSpec
from mutransfer_cli.spec.parameterization import ParameterizationSpec
from mutransfer_cli.spec.sweep import TrainSpec, refuse_schedule, with_decay_fraction
from mutransfer_cli.spec.yaml_io import content_hash, load_yaml, read_text
from mutransfer_cli.strict import Count, Grown, Natural, Positive, Share, Strict, validated

PROTOCOL_SCHEMA = "mutransfer.protocol/1"


class DeclaredModel(Strict):
    """The model of own results, as far as it is said; it stays the same at all widths.

    Attributes:
        depth: number of blocks.
        head_size: d_head, the width of a head.
        vocab: tokens in the vocabulary.
        attention_scale: factor on q.k.
    """

    depth: Count | None = None
    head_size: Count | None = None
    vocab: Count | None = None
    attention_scale: AttentionScale | None = None


class DeclaredTrain(Grown):
    """The training of own results; keys as in a sweep spec.

    Attributes:
        batch: sequences per step.
        precision: of the forward and backward pass, in one's own words.
    """

    LATER: ClassVar[frozenset[str]] = frozenset({"decay_fraction"})
    EXPLAINED_BY: ClassVar[tuple[type, ...]] = (TrainSpec,)

    batch: Count
    steps: Count
    context: Count | None = None
    warmup: Natural = 0
    schedule: ScheduleName | None = None
    decay_fraction: Share | None = None
    clip: Positive | None = None
    precision: str | None = None

    @model_validator(mode="before")
    @classmethod
    def wsd_decays(cls, train: Any) -> Any:
        return with_decay_fraction(train)

    @model_validator(mode="after")
    def schedule_fits(self) -> DeclaredTrain:
        refuse_schedule(self.steps, self.warmup, self.schedule, self.decay_fraction)
        return self


class DeclaredProtocol(Strict):
    """What a fit of own results cannot know: how the runs were scaled with width, and trained.

    Attributes:
        schema: the format of this file, and its version.
        parameterization: the rule that the runs followed; lr and weight decay of the table are the
            base values, those of `base_width`.
        optimizer: its base values; weight_decay counts where the table has no such column.
        train: how the runs were trained.
        model: what is known of the model.
    """

    schema_: Literal["mutransfer.protocol/1"] = Field(alias="schema")
    parameterization: ParameterizationSpec
    optimizer: OptimizerSpec
    train: DeclaredTrain
    model: DeclaredModel = DeclaredModel()

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
