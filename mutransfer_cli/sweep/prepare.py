"""A spec made concrete: text, protocol, base plan, trials, device."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mutransfer_cli import __version__
from mutransfer_cli.data.corpus import Corpus, DeviceText, check_size
from mutransfer_cli.data.load import data_vocab, load_corpus
from mutransfer_cli.errors import InputError
from mutransfer_cli.files.records import (
    TRIAL_SCHEMA,
    BaseParameterRecord,
    ModelProtocol,
    Protocol,
    SweepHeader,
)
from mutransfer_cli.files.spec import SweepSpec
from mutransfer_cli.proxies.build import base_plan, build_proxy
from mutransfer_cli.proxies.transformer import Transformer
from mutransfer_cli.rules.plan import AxisName, BaseParameter
from mutransfer_cli.sweep.trials import Trial, expand
from mutransfer_cli.train.device import device_name
from mutransfer_cli.train.ensemble import Ensemble, Plan
from mutransfer_cli.train.execution import EAGER, Execution
from mutransfer_cli.train.loop import Trainer
from mutransfer_cli.train.slots import Job


@dataclass(frozen=True)
class Sweep:
    """A spec made concrete: its text read, its model's base plan known, its trials named."""

    protocol: Protocol
    corpus: Corpus
    base_plan: tuple[BaseParameter, ...]
    trials: dict[int, list[Trial]]

    @classmethod
    def prepare(cls, spec: SweepSpec, spec_folder: Path) -> Sweep:
        corpus = load_corpus(spec.data, spec_folder)
        check_size(corpus, spec.train)
        protocol = Protocol.of(spec, corpus.protocol, corpus.vocab)
        trials = expand(spec.sweep, protocol.hash)
        found = base_plan(protocol.model, spec.train.context, spec.parameterization.base_width)
        return cls(protocol, corpus, found, trials)

    def shard(self, part: int, parts: int) -> Sweep:
        """Every parts-th trial of each width, from the part-th on; together they are all.

        Raises:
            InputError: no trial is left for this one.
        """
        trials = {width: found[part - 1 :: parts] for width, found in self.trials.items()}
        trials = {width: found for width, found in trials.items() if found}
        if not trials:
            raise InputError(
                f"shard {part}/{parts}: no width has so many trials; take fewer shards"
            )
        return replace(self, trials=trials)

    def header(self, device: torch.device | None) -> SweepHeader:
        """
        Args:
            device: None where workers train, each on its own: records name it.
        """
        return SweepHeader(
            schema_=TRIAL_SCHEMA,
            kind="sweep",
            protocol=self.protocol,
            protocol_hash=self.protocol.hash,
            base_plan=tuple(BaseParameterRecord.of(p) for p in self.base_plan),
            environment={
                "mutransfer": __version__,
                "python": platform.python_version(),
                "torch": torch.__version__,
                "device": device_name(device) if device else "workers",
            },
        )

    def model(self, width: int) -> Transformer:
        return build_proxy(self.protocol.model, self.protocol.train.context, width)

    def trial_plan(self, trial: Trial) -> Plan:
        return self.protocol.plan(self.base_plan, trial.width, trial.axes)

    def jobs(self, trials: Iterable[Trial]) -> list[Job]:
        return [Job(trial.id, self.trial_plan(trial), trial.seed) for trial in trials]

    def trainer(self, width: int, text: DeviceText, execution: Execution = EAGER) -> Trainer:
        train, optimizer = self.protocol.train, self.protocol.optimizer
        ensemble = Ensemble(self.model(width), train, optimizer, text.train.device, execution)
        return Trainer(ensemble, text, train)


def spec_plan(
    spec: SweepSpec,
    spec_folder: Path,
    width: int,
    axes: Mapping[AxisName, float],
    folded: bool = False,
) -> Plan:
    """The plan of a spec's model at a width; of its data only a tokenizer is read."""
    vocab = data_vocab(spec.data, spec_folder)
    rule, model = spec.parameterization, ModelProtocol.of(spec, vocab)
    found = base_plan(model, spec.train.context, rule.base_width)
    return rule.plan(spec.optimizer, found, width, axes, folded)
