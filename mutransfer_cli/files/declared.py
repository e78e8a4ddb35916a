"""What a user declares of own results, `schema: mutransfer.protocol/1`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from mutransfer_cli.errors import InputError
from mutransfer_cli.files.optimizers import OptimizerSpec
from mutransfer_cli.files.parameterization import ParameterizationSpec
from mutransfer_cli.files.spec import AttentionScale, refuse_long_warmup
from mutransfer_cli.files.strict import Count, Natural, Positive, Strict, validated
from mutransfer_cli.files.yaml_io import content_hash, load_yaml, read_text
from mutransfer_cli.rules.rule import Rule
from mutransfer_cli.rules.schedule import ScheduleName
from mutransfer_cli.rules.weight_decay import DecayConvention

PROTOCOL_SCHEMA = "mutransfer.protocol/1"


class DeclaredModel(Strict):
    """The model of own results, as far as it is said; it stays the same at all widths."""

    depth: Count | None = None
    head_size: Count | None = None
    vocab: Count | None = None
    attention_scale: AttentionScale | None = None


class DeclaredTrain(Strict):
    """The training of own results; keys as in a sweep spec.

    Attributes:
        batch: sequences per step.
        steps: optimizer steps.
    """

    batch: Count
    steps: Count
    context: Count | None = None
    warmup: Natural = 0
    schedule: ScheduleName | None = None
    clip: Positive | None = None
    precision: str | None = None

    @model_validator(mode="after")
    def warmup_ends(self) -> DeclaredTrain:
        refuse_long_warmup(self.warmup, self.steps)
        return self


class DeclaredProtocol(Strict):
    """What a fit of own results cannot know: how the runs were scaled with width, and trained.

    Attributes:
        parameterization: the rule that the runs followed; lr and weight decay of the table are the
            base values, those of `base_width`.
        optimizer: its base values; weight_decay counts where the table has no such column.
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


def load_protocol(path: Path, weight_decay: float | None) -> DeclaredProtocol:
    """
    Args:
        weight_decay: of all rows of the table; None where it varies or has no column.

    Raises:
        InputError: the file, or a weight decay in it that is not the table's.
    """
    protocol = validated(DeclaredProtocol, load_yaml(read_text(path), str(path)), str(path))
    optimizer = protocol.optimizer
    if weight_decay is None or weight_decay == optimizer.weight_decay:
        return protocol
    if optimizer.weight_decay:
        raise InputError(
            f"{path}: optimizer.weight_decay is {optimizer.weight_decay:g} and every row of the "
            f"table has {weight_decay:g}; correct one of them"
        )
    section = {"optimizer": optimizer.model_dump() | {"weight_decay": weight_decay}}
    said = protocol.model_dump(by_alias=True, exclude_unset=True)
    return validated(DeclaredProtocol, said | section, str(path))
