"""A spec made concrete: its text, protocol, base plan and trials, and its widths' trainers."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path

import torch
from torch import nn

from mutransfer_cli import __version__
from mutransfer_cli.data.corpus import Corpus, DeviceText, check_size
from mutransfer_cli.data.load import data_vocab, load_corpus
from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.build import (
    BuiltIn,
    Reading,
    build_proxy,
    builder,
    proxy_shapes,
    read_model,
)
from mutransfer_cli.proxies.example import Example, takes_targets
from mutransfer_cli.proxies.factory import on_meta
from mutransfer_cli.proxies.hf_notes import say_what_is_used
from mutransfer_cli.proxies.reading import Note, silent
from mutransfer_cli.proxies.samples import structure
from mutransfer_cli.proxies.tying import output_factor
from mutransfer_cli.rules.plan import MULT_AXES, AxisName, BaseParameter, Shapes, refuse_unplannable
from mutransfer_cli.spec.data import OwnData
from mutransfer_cli.spec.decoder import ModelProtocol
from mutransfer_cli.spec.model import AnyModel, HfProtocol, MLPProtocol
from mutransfer_cli.spec.optimizers import OptimizerSpec
from mutransfer_cli.spec.parameterization import ParameterizationSpec
from mutransfer_cli.spec.protocol import Protocol, model_protocol
from mutransfer_cli.spec.records import (
    TRIAL_SCHEMA,
    AttentionSeen,
    BaseParameterRecord,
    SweepHeader,
    TrialRecord,
    trial_hash,
)
from mutransfer_cli.spec.sweep import SweepGrid, SweepSpec
from mutransfer_cli.spec.yaml_io import content_hash
from mutransfer_cli.torch_private import without_recomputation
from mutransfer_cli.train.cost import Cost, estimated_cost, mlp_cost, multiplied, trial_cost
from mutransfer_cli.train.device import device_name
from mutransfer_cli.train.ensemble import Ensemble, Plan
from mutransfer_cli.train.execution import EAGER, Execution
from mutransfer_cli.train.loop import Trainer
from mutransfer_cli.train.slots import Job


@dataclass(frozen=True, slots=True)  # a sweep may have a million
class Trial:
    """One proxy run; `id` is the hash of everything that determines its result."""

    id: str
    width: int
    seed: int
    axes: Mapping[AxisName, float]


def expand(grid: SweepGrid, protocol_hash: str) -> dict[int, list[Trial]]:
    """All trials by width, ascending; within a width by seed, then the axes, lr fastest."""
    names = sorted(grid.axes, reverse=True)
    combinations = [
        dict(zip(names, values, strict=True))
        for values in product(*(sorted(grid.axes[name]) for name in names))
    ]
    return {
        width: [
            Trial(trial_hash(protocol_hash, width, seed, axes), width, seed, axes)
            for seed in sorted(grid.seeds)
            for axes in combinations
        ]
        for width in sorted(grid.widths)
    }


def name_of(trials: Iterable[Trial]) -> str:
    """A short name for several trials, the hash of their ids."""
    return content_hash([trial.id for trial in trials], length=12)


def pending(trials: Sequence[Trial], recorded: Mapping[str, TrialRecord]) -> list[Trial]:
    """The trials without a finished record."""
    done = {key for key, record in recorded.items() if record.status != "failed"}
    return [trial for trial in trials if trial.id not in done]


@dataclass(frozen=True)
class Sweep:
    """A spec with its text read, its model's base plan known and its trials named.

    Attributes:
        trials: all trials by width, ascending.
        shapes: shapes of the parameters by width; empty for a built-in model.
        sequence_bytes: bytes that autograd keeps of one sequence at the base width; 0 for a
            built-in model.
        attention: that of a model that is not built in, where it has any.
        sample_flops: FLOPs of a forward pass of one sample at the base width; 0 for tokens.
    """

    protocol: Protocol
    corpus: Corpus
    base_plan: tuple[BaseParameter, ...]
    trials: dict[int, list[Trial]]
    shapes: Mapping[int, Shapes] = field(default_factory=dict)
    sequence_bytes: float = 0.0
    attention: AttentionSeen | None = None
    sample_flops: float = 0.0

    @classmethod
    def prepare(cls, spec: SweepSpec, spec_folder: Path, note: Note = silent) -> Sweep:
        """Read the data and the model of a spec.

        Args:
            spec_folder: folder that relative paths of the spec start from.

        Raises:
            InputError: the data, the model and the training do not fit together.
        """
        without_recomputation()  # memory is measured as it will be needed
        corpus = load_corpus(spec.data, spec_folder)
        check_size(corpus, spec.train)
        protocol = Protocol.of(spec, corpus.protocol, corpus.vocab, spec_folder)
        trials = expand(spec.sweep, protocol.hash)
        context, rule = spec.train.context, spec.parameterization
        example = corpus.example(context, spec.loss)
        reading = read_proxy(protocol.model, context, rule, note, example)
        tried = reading.tried
        if tried.why_not:
            what = f"tokens of shape [batch, {context}]"
            if example.vocab is None:
                what = f"samples, {structure(example.batch)}"
            raise InputError(f"model: cannot be run on {what}: {tried.why_not}")
        if spec.train.z_loss and tried.has_loss:
            raise InputError(
                "train.z_loss: needs logits, but the model's forward returns only its loss; add "
                "the term to that loss, or leave it out"
            )
        refuse_other_than_matrices(spec.optimizer, reading)
        shapes = {
            width: proxy_shapes(protocol.model, context, rule.base_width, width) for width in trials
        }
        known = {width: found for width, found in shapes.items() if found is not None}
        refuse_missing_roles(spec, reading.base_plan)
        if any(parameter.is_tied_readout for parameter in reading.base_plan):
            refuse_tied_loss(spec, protocol.model, reading.base_plan, max(trials))
        return cls(
            protocol,
            corpus,
            reading.base_plan,
            trials,
            known,
            tried.sequence_bytes,
            reading.attention_seen,
            tried.sample_flops,
        )

    def shard(self, part: int, parts: int) -> Sweep:
        """The sweep with every `parts`-th trial of each width, starting at the `part`-th.

        Raises:
            InputError: no trial is left for this shard.
        """
        trials = {width: found[part - 1 :: parts] for width, found in self.trials.items()}
        trials = {width: found for width, found in trials.items() if found}
        if not trials:
            raise InputError(
                f"shard {part}/{parts}: no width has so many trials; take fewer shards",
                setting="shard",
            )
        return replace(self, trials=trials)

    def header(self, device: torch.device | None) -> SweepHeader:
        """Header of the record file.

        Args:
            device: None if workers train, whose records name the device of each.
        """
        return SweepHeader(
            schema_=TRIAL_SCHEMA,
            kind="sweep",
            protocol=self.protocol,
            protocol_hash=self.protocol.hash,
            base_plan=tuple(BaseParameterRecord.of(p) for p in self.base_plan),
            attention=self.attention,
            environment={
                "mutransfer": __version__,
                "python": platform.python_version(),
                "torch": torch.__version__,
                "device": device_name(device) if device else "workers",
            },
        )

    @cached_property
    def example(self) -> Example:
        """A small batch to run models on."""
        return self.corpus.example(self.protocol.train.context, self.protocol.loss)

    def model(self, width: int) -> nn.Module:
        base_width = self.protocol.parameterization.base_width
        return build_proxy(self.protocol.model, self.protocol.train.context, base_width, width)

    def trial_plan(self, trial: Trial) -> Plan:
        return self._plan(trial.width, trial.axes)

    def _plan(self, width: int, axes: Mapping[AxisName, float]) -> Plan:
        return self.protocol.plan(self.base_plan, width, axes, self.shapes.get(width))

    def cost(self, width: int) -> Cost:
        """Predicted cost of one trial at a width, and memory of several side by side."""
        if isinstance(self.protocol.model, ModelProtocol):
            return trial_cost(self.protocol, width)
        if isinstance(self.protocol.model, MLPProtocol):
            return mlp_cost(self.protocol, width)
        axes = self.trials[width][0].axes
        planned = self._plan(width, axes)
        return estimated_cost(
            self.protocol, planned, self.sequence_bytes, width, self.positions(axes)
        )

    def positions(self, axes: Mapping[AxisName, float]) -> float:
        """How often a token or a sample passes a matrix, on average."""
        if not self.sample_flops:
            return 1.0
        return self.sample_flops / (
            2 * multiplied(self._plan(self.protocol.parameterization.base_width, axes))
        )

    def jobs(self, trials: Iterable[Trial]) -> list[Job]:
        return [Job(trial.id, self.trial_plan(trial), trial.seed) for trial in trials]

    def trainer(self, width: int, text: DeviceText, execution: Execution = EAGER) -> Trainer:
        ensemble = self.ensemble(width, text.device, execution)
        return Trainer(ensemble, text, self.protocol.train)

    def ensemble(self, width: int, device: torch.device, execution: Execution = EAGER) -> Ensemble:
        train, optimizer = self.protocol.train, self.protocol.optimizer
        return Ensemble(self.model(width), train, optimizer, device, execution, self.example)


def spec_plan(
    spec: SweepSpec,
    spec_folder: Path,
    width: int,
    axes: Mapping[AxisName, float],
    folded: bool = False,
    note: Note = silent,
) -> Plan:
    """The plan of a spec's model at a width, without reading its data beyond a tokenizer; the
    user's own samples are made, because only they tell how the model is called."""
    vocab, example = data_vocab(spec.data, spec_folder), None
    if isinstance(spec.data, OwnData):
        example = load_corpus(spec.data, spec_folder).example(spec.train.context, spec.loss)
    rule, model = spec.parameterization, model_protocol(spec, vocab, spec_folder)
    found = read_proxy(model, spec.train.context, rule, note, example)
    shapes = proxy_shapes(model, spec.train.context, rule.base_width, width)
    return rule.plan(spec.optimizer, found.base_plan, width, axes, folded, shapes)


def read_proxy(
    model: AnyModel,
    context: int,
    rule: ParameterizationSpec,
    note: Note,
    example: Example | None = None,
) -> Reading:
    if isinstance(model, HfProtocol):
        say_what_is_used(model, rule.base_width, note)
    return read_model(model, context, rule.base_width, note, example)


def refuse_missing_roles(spec: SweepSpec, base_plan: Sequence[BaseParameter]) -> None:
    """Raise InputError for a factor other than 1, fixed or swept, on a role that nothing has."""
    refuse_unplannable(base_plan, spec.optimizer.lr_mult)
    for role, axis in MULT_AXES.items():
        for value in spec.sweep.axes.get(axis, ()):
            refuse_unplannable(base_plan, {role: value})


def refuse_tied_loss(
    spec: SweepSpec, model: AnyModel, base_plan: Sequence[BaseParameter], width: int
) -> None:
    """Raise InputError if a tied weight needs an output multiplier that nothing can apply."""
    rule, context = spec.parameterization, spec.train.context
    planned = rule.plan(spec.optimizer, base_plan, width, {"lr": 1.0})
    if not isinstance(model, BuiltIn):
        built = on_meta(builder(model, context, rule.base_width), width)
        output_factor(planned, built, takes_targets(built))


def refuse_other_than_matrices(optimizer: OptimizerSpec, reading: Reading) -> None:
    """Raise InputError if Muon would get a hidden weight that is no matrix or stack of matrices."""
    if optimizer.name != "muon":
        return
    for parameter in reading.base_plan:
        of_convolution = parameter.name in reading.convolutions and len(parameter.shape) > 2
        if parameter.role == "hidden" and (of_convolution or parameter.further_fan_in_axes):
            what = "is a convolution" if of_convolution else "multiplies pairs of features"
            raise InputError(
                f"{parameter.name}: {what}, and muon orthogonalises matrices; choose another "
                "optimizer"
            )
