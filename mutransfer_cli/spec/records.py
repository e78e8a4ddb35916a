"""Trial records, `schema: mutransfer.trial/1`: one sweep header, then one line per trial, and one
per width and run with its throughput.

MERGED:
What differs between two file models, key by key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from mutransfer_cli.errors import InputError
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.rules.plan import (
    AXES,
    MULT_AXES,
    AxisName,
    BaseParameter,
    PlannedParameter,
    Shapes,
)
from mutransfer_cli.rules.rule import Rule
from mutransfer_cli.spec.data import AnyData, DataProtocol, LinearTeacherData
from mutransfer_cli.spec.decoder import Architecture, ModelProtocol
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
from mutransfer_cli.spec.sweep import SweepSpec, TrainSpec
from mutransfer_cli.spec.yaml_io import content_hash, json_line, parse_line
from mutransfer_cli.strict import (
    Closed,
    Count,
    Grown,
    Natural,
    NonNegative,
    Number,
    Positive,
    Strict,
    own_line,
    validated,
)

TRIAL_SCHEMA = "mutransfer.trial/1"
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
    """All that a trial shares with its sweep.

    Attributes:
        model: with every default resolved.
        data: what was read, or how samples are generated.
        parameterization: how everything goes with width.
        optimizer: its base values, those at the base width.
        train: one training run.
    """

    model: AnyModel
    data: AnyData
    parameterization: ParameterizationSpec
    optimizer: OptimizerSpec
    train: TrainSpec

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


class BaseParameterRecord(Grown):
    """One line of the base plan."""

    EXPLAINED_BY: ClassVar[tuple[type, ...]] = (BaseParameter,)
    LATER: ClassVar[frozenset[str]] = frozenset({"init_exponent"})

    name: str
    role: Role
    shape: tuple[Count, ...]
    growing_axes: tuple[Natural, ...]
    init_std: NonNegative
    init_mean: Number = 0.0
    fan_in_axis: Natural | None = None
    own_multiplier: Number = 0.0
    init_exponent: Number | None = None

    @classmethod
    def of(cls, parameter: BaseParameter) -> BaseParameterRecord:
        return cls(**vars(parameter))

    def parameter(self) -> BaseParameter:
        return BaseParameter(**dict(self))


class SweepHeader(Strict):
    """First record of a sweep.

    Attributes:
        schema: the format of these records, and its version.
        kind: which record: sweep.
        protocol: all that the trials share.
        protocol_hash: first 16 hex digits of the SHA-256 of its canonical JSON.
        base_plan: every parameter of the model at the base width.
        environment: versions and device of the first run; no part of the protocol.
    """

    schema_: Literal["mutransfer.trial/1"] = Field(alias="schema")
    kind: Literal["sweep"]
    protocol: Protocol
    protocol_hash: str
    base_plan: tuple[BaseParameterRecord, ...]
    environment: dict[str, str]

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
    """One finished trial.

    Attributes:
        kind: which record: trial.
        trial: hash of what determines the result (protocol, width, seed, axes).
        width: of the model, in features.
        seed: of init and of the order of the data.
        lr: peak base learning rate, per step at the base width.
        weight_decay: base weight decay, in the protocol's convention.
        lr_mult.embedding, lr_mult.hidden, lr_mult.readout: factor on the rate of the role.
        status: ok; diverged, a loss that was not finite; or failed, an error.
        train_loss: nats per token (of samples their mean squared error, and for tokens read
            samples), mean over the last tenth of the steps; null when diverged.
        eval_loss: alike, on the fixed eval batches; null when diverged.
        diverged_at: first step (from 1) whose loss was not finite; the last if only eval was not.
        steps: steps run, up to divergence.
        tokens: tokens trained on.
        flops: model FLOPs, forward and backward.
        seconds: wall time of the group divided by its trials.
        group: hash of the trials trained together.
        group_size: how many trials were trained together.
        device: where the trial was run; no part of its identity.
        compiled: whether by torch.compile; no part of its identity.
        error: why a failed trial failed.
    """

    kind: Literal["trial"] = "trial"
    trial: str
    width: Count
    seed: Natural
    lr: Positive
    weight_decay: NonNegative
    lr_mult_embedding: Positive = Field(1.0, alias="lr_mult.embedding")
    lr_mult_hidden: Positive = Field(1.0, alias="lr_mult.hidden")
    lr_mult_readout: Positive = Field(1.0, alias="lr_mult.readout")
    status: Status
    train_loss: Number | None
    eval_loss: Number | None
    diverged_at: Count | None = None
    steps: Natural
    tokens: Natural
    flops: NonNegative
    seconds: NonNegative
    group: str
    group_size: Count
    device: str
    compiled: bool
    error: str | None = None

    @model_validator(mode="after")
    def losses_fit_status(self) -> TrialRecord:
        has_losses = self.train_loss is not None and self.eval_loss is not None
        if has_losses != (self.status == "ok"):
            raise ValueError(f"status {self.status} with eval_loss {self.eval_loss}")
        return self

    @model_validator(mode="after")
    def share_the_set_of_fields(self) -> TrialRecord:
        # pydantic notes which fields were given, in a set larger than the record, that nobody reads
        object.__setattr__(self, "__pydantic_fields_set__", FIELDS_SET)
        return self

    @property
    def axes(self) -> dict[AxisName, float]:
        return {axis: getattr(self, FIELDS[axis]) for axis in AXES}

    def line(self) -> bytes:
        return json_line(self.model_dump(mode="json", by_alias=True))


class ThroughputRecord(Strict):
    """How fast the trials of a width were trained, by one device in one run.

    Attributes:
        kind: which record: throughput.
        width: of the model, in features.
        group: hash of the trials trained together.
        group_size: how many trials were trained together.
        device: where they were trained.
        compiled: whether by torch.compile.
        captured: whether the steps were replayed from a CUDA graph.
        tokens: tokens trained on.
        seconds: wall time taken, without `start_seconds`.
        start_seconds: wall time to build and compile.
        tokens_per_second: tokens / seconds.
        trials_per_hour: whole trials that so many tokens a second are.
        flops_per_second: model FLOPs, forward and backward.
        matrix_peak: FLOP/s of a large matrix product on the device in the run's precision.
        of_peak: flops_per_second / matrix_peak.
    """

    kind: Literal["throughput"] = "throughput"
    width: Count
    group: str
    group_size: Count
    device: str
    compiled: bool
    captured: bool = False
    tokens: Natural
    seconds: NonNegative
    start_seconds: NonNegative
    tokens_per_second: NonNegative
    trials_per_hour: NonNegative
    flops_per_second: NonNegative
    matrix_peak: Positive
    of_peak: NonNegative

    def line(self) -> bytes:
        return json_line(self.model_dump(mode="json"))


FIELDS = {field.alias or name: name for name, field in TrialRecord.model_fields.items()}
FIELDS_SET = set(FIELDS.values())


def trial_hash(protocol_hash: str, width: int, seed: int, axes: Mapping[AxisName, float]) -> str:
    """Identity of a trial; axis values count to nine digits, so that rounding makes no new ones.

    A factor of 1 and a weight decay of 0 are as good as none: a sweep that adds an axis keeps the
    trials it has.
    """
    nothing = {"weight_decay": 0.0} | dict.fromkeys(MULT_AXES.values(), 1.0)
    written = {axis: f"{value:.9g}" for axis, value in axes.items() if value != nothing.get(axis)}
    return content_hash(
        {"protocol": protocol_hash, "width": width, "seed": seed, "axes": written}, length=12
    )


@dataclass(frozen=True)
class Records:
    """A parsed record stream. `torn` holds the bytes of a last line that has no newline."""

    header: SweepHeader
    trials: tuple[TrialRecord, ...]
    torn: bytes = b""


def parse_records(
    lines: Iterable[bytes], where: str, earlier: Records | None = None
) -> Records | None:
    """Records of one protocol, added to `earlier` ones; None when there is no complete line.

    Only a last line without newline is skipped (a write that was cut short). A trial that failed
    and was run again counts with its last record.

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
    """A header, a throughput, or a trial as people may write it, after the header so far; an
    InputError says what is wrong."""
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
    # records of sweeps before weight decay was an axis hold it in the protocol alone
    data.setdefault("weight_decay", header.protocol.optimizer.weight_decay)
    return validated(TrialRecord, data, where)


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
