"""Trial records, `schema: mutransfer.trial/1`: a header, lines of trials, lines of throughput."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from mutransfer_cli.errors import InputError
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.rules.plan import AXES, MULT_AXES, AxisName, BaseParameter
from mutransfer_cli.spec.protocol import Protocol, difference
from mutransfer_cli.spec.yaml_io import content_hash, json_line, parse_line
from mutransfer_cli.strict import (
    Closed,
    Count,
    Natural,
    NonNegative,
    Number,
    Positive,
    Sparse,
    Strict,
    own_line,
    validated,
)

TRIAL_SCHEMA = "mutransfer.trial/1"


class BaseParameterRecord(Sparse):
    """A parameter of the base plan."""

    OPTIONAL: ClassVar[frozenset[str]] = frozenset(
        {
            *("init_exponent", "further_fan_in_axes", "keeps_draw", "in_block"),
            *("is_tied_readout", "own_output_multiplier", "before_readout"),
        }
    )

    name: str
    """Dotted name in the module."""
    role: Role
    """Role, which determines how it scales with width."""
    shape: tuple[Count, ...]
    """Shape at the base width."""
    growing_axes: tuple[Natural, ...]
    """Axes whose sizes are proportional to width."""
    init_std: NonNegative
    """Std of its normal init at the base width, that of the base model."""
    init_mean: Number = 0.0
    """Mean of that init, the same at all widths: 1 for a gain."""
    fan_in_axis: Natural | None = None
    """The input axis, if it is known."""
    own_multiplier: Number = 0.0
    """Exponent of the width in a factor that the model's own code applies."""
    init_exponent: Number | None = None
    """Exponent of the width in the init std of weight times multiplier, in place of the rule's."""
    further_fan_in_axes: tuple[Natural, ...] = ()
    """Input axes beside `fan_in_axis`, over which the same product sums."""
    keeps_draw: bool = False
    """Whether it starts at the values that the model's own code draws at each width."""
    in_block: bool = False
    """Whether its input is made by other parameters: an embedding in a block decays."""
    is_tied_readout: bool = False
    """Whether the embedding is the readout too, which takes an output multiplier."""
    own_output_multiplier: Number = 0.0
    """As `own_multiplier`, where a tied embedding is the readout."""
    before_readout: bool = False
    """Whether it is gain or bias of the norm directly before a tied readout."""

    @classmethod
    def of(cls, parameter: BaseParameter) -> BaseParameterRecord:
        """The record of a parameter."""
        return cls(**{key: getattr(parameter, key) for key in cls.model_fields})

    def parameter(self) -> BaseParameter:
        """The parameter of this record."""
        return BaseParameter(**dict(self))


class AttentionSeen(Strict):
    """The factor on q.k in a forward pass of a model that is not built in."""

    head_size: Count | None
    """Size of the heads at the base width; null where torch's attention is not called."""
    factor: Positive | None
    """The factor there; null likewise, or where there are several."""
    exponent: Number | None
    """Exponent of width in the size of q.k times the factor, for equal queries and keys; null where
    it was not seen."""


class SweepHeader(Sparse):
    """The first record of a sweep."""

    OPTIONAL: ClassVar[frozenset[str]] = frozenset({"attention"})

    schema_: Literal["mutransfer.trial/1"] = Field(alias="schema")
    """Format and version of these records."""
    kind: Literal["sweep"]
    """Kind of record: sweep."""
    protocol: Protocol
    """Everything that the trials share."""
    protocol_hash: str
    """First 16 hex digits of the SHA-256 of its canonical JSON."""
    base_plan: tuple[BaseParameterRecord, ...]
    """Every parameter of the model at the base width."""
    attention: AttentionSeen | None = None
    """The attention of a model that is not built in, where it has any."""
    environment: dict[str, str]
    """Versions and device of the first run; not part of the protocol."""

    @model_validator(mode="after")
    def hash_fits(self) -> SweepHeader:
        if self.protocol_hash != self.protocol.hash:
            raise ValueError(
                f"protocol_hash {self.protocol_hash} is not that of the protocol, "
                f"{self.protocol.hash}: the header was changed by hand"
            )
        return self


Status = Literal["ok", "diverged", "failed"]


class TrialRecord(Closed):
    """One finished trial."""

    kind: Literal["trial"] = "trial"
    """Kind of record: trial."""
    trial: str
    """Hash of what determines the result: protocol, width, seed and axes."""
    width: Count
    """Model width, in features."""
    seed: Natural
    """Seed of init and of the order of the data."""
    lr: Positive
    """Peak base learning rate, per step at the base width."""
    weight_decay: NonNegative
    """Base weight decay, in the protocol's convention."""
    lr_mult_embedding: Positive = Field(1.0, alias="lr_mult.embedding")
    """Factor on the rate of the embedding."""
    lr_mult_hidden: Positive = Field(1.0, alias="lr_mult.hidden")
    """Factor on the rate of hidden matrices."""
    lr_mult_readout: Positive = Field(1.0, alias="lr_mult.readout")
    """Factor on the rate of the readout."""
    status: Status
    """ok; diverged: a loss was not finite; or failed: an error occurred."""
    train_loss: Number | None
    """Nats per token, or the mean squared error of samples; mean over the last tenth of the steps;
    null if diverged."""
    eval_loss: Number | None
    """The same loss on the fixed eval batches; null if diverged."""
    diverged_at: Count | None = None
    """First step (from 1) whose loss was not finite; the last one if only eval_loss was not."""
    steps: Natural
    """Steps run, up to divergence."""
    tokens: Natural
    """Tokens trained on, or samples."""
    flops: NonNegative
    """Model FLOPs of forward and backward passes."""
    seconds: NonNegative
    """Wall time of the group divided by its number of trials."""
    group: str
    """Hash of the trials trained together."""
    group_size: Count
    """How many trials were trained together."""
    device: str
    """Device of the trial; not part of its identity."""
    compiled: bool
    """Whether torch.compile was used; not part of its identity."""
    error: str | None = None
    """Why a failed trial failed."""

    @model_validator(mode="after")
    def losses_fit_status(self) -> TrialRecord:
        has_losses = self.train_loss is not None and self.eval_loss is not None
        if has_losses != (self.status == "ok"):
            raise ValueError(f"status {self.status} with eval_loss {self.eval_loss}")
        return self

    @model_validator(mode="after")
    def share_the_set_of_fields(self) -> TrialRecord:
        # pydantic keeps a set of the given fields, larger than the record, which nobody reads
        object.__setattr__(self, "__pydantic_fields_set__", FIELDS_SET)
        return self

    @property
    def axes(self) -> dict[AxisName, float]:
        """The trial's value of every axis."""
        return {axis: getattr(self, FIELDS[axis]) for axis in AXES}

    def line(self) -> bytes:
        """The record as a line of the file."""
        return json_line(self.model_dump(mode="json", by_alias=True))


class ThroughputRecord(Strict):
    """The speed at which one device trained the trials of a width in one run."""

    kind: Literal["throughput"] = "throughput"
    """Kind of record: throughput."""
    width: Count
    """Model width, in features."""
    group: str
    """Hash of the trials trained together."""
    group_size: Count
    """How many trials were trained together."""
    device: str
    """Device of the trials."""
    compiled: bool
    """Whether torch.compile was used."""
    captured: bool = False
    """Whether the steps were replayed from a CUDA graph."""
    tokens: Natural
    """Tokens trained on, or samples."""
    seconds: NonNegative
    """Wall time, without `start_seconds`."""
    start_seconds: NonNegative
    """Wall time to build and compile."""
    tokens_per_second: NonNegative
    """Tokens / seconds."""
    trials_per_hour: NonNegative
    """Whole trials per hour at this speed."""
    flops_per_second: NonNegative
    """Model FLOP/s of forward and backward passes."""
    matrix_peak: Positive
    """FLOP/s of a large matrix product on the device, in the run's precision."""
    of_peak: NonNegative
    """flops_per_second / matrix_peak."""

    def line(self) -> bytes:
        """The record as a line of the file."""
        return json_line(self.model_dump(mode="json"))


FIELDS = {field.alias or name: name for name, field in TrialRecord.model_fields.items()}
FIELDS_SET = set(FIELDS.values())


def trial_hash(protocol_hash: str, width: int, seed: int, axes: Mapping[AxisName, float]) -> str:
    """Identify a trial by nine digits of its axis values, so that rounding makes no new trials.

    A factor of 1 and a weight decay of 0 count as absent, so that a sweep that adds an axis keeps
    its trials.
    """
    nothing = {"weight_decay": 0.0} | dict.fromkeys(MULT_AXES.values(), 1.0)
    written = {axis: f"{value:.9g}" for axis, value in axes.items() if value != nothing.get(axis)}
    return content_hash(
        {"protocol": protocol_hash, "width": width, "seed": seed, "axes": written}, length=12
    )


@dataclass(frozen=True)
class Records:
    """Parsed records; `torn` holds the bytes of a last line without a newline."""

    header: SweepHeader
    trials: tuple[TrialRecord, ...]
    torn: bytes = b""


def parse_records(
    lines: Iterable[bytes], where: str, earlier: Records | None = None
) -> Records | None:
    """Parse the records of one protocol, added to `earlier` ones; None without a complete line.

    A last line without a newline, a write that was cut short, is skipped. If a failed trial was run
    again, its last record counts.

    Raises:
        InputError: a line that is not a record, with its number; a missing header; two protocols.
    """
    header = earlier.header if earlier else None
    trials = {record.trial: record for record in earlier.trials} if earlier else {}
    torn = b""
    for number, line in enumerate(lines, start=1):
        if not line.endswith(b"\n"):
            torn = line
            break
        record = own_line(TrialRecord, line) if header else None
        if record is None:
            if not line.strip():
                continue
            found = _other_line(line, f"{where} line {number}", header)
            if isinstance(found, SweepHeader):
                header = header or found
            if not isinstance(found, TrialRecord):
                continue
            record = found
        before = trials.get(record.trial)
        if before is None or before.status == "failed":
            trials[record.trial] = record
    return Records(header, tuple(trials.values()), torn) if header else None


def _other_line(
    line: bytes, where: str, header: SweepHeader | None
) -> SweepHeader | TrialRecord | ThroughputRecord:
    """Parse a header, a throughput, or a trial as people may write it, given the header so far."""
    data = parse_line(line, where)
    if data.get("kind") == "sweep":
        found = validated(SweepHeader, data, where)
        if header is not None and found.protocol_hash != header.protocol_hash:
            raise InputError(
                f"{where}: protocol {found.protocol_hash} follows protocol "
                f"{header.protocol_hash}; {difference(header.protocol, found.protocol)}; "
                "give the records of one protocol"
            )
        return found
    if header is None:
        raise InputError(
            f"{where}: a trial before the sweep header; the first line must be "
            '{"schema": "mutransfer.trial/1", "kind": "sweep", ...}'
        )
    if data.get("kind") == "throughput":
        return validated(ThroughputRecord, data, where)
    # records from before weight decay was an axis have it in the protocol only
    data.setdefault("weight_decay", header.protocol.optimizer.weight_decay)
    return validated(TrialRecord, data, where)
