"""A spec made concrete: text, protocol, base plan, trials, device."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

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
from mutransfer_cli.torch_private import cpu_has_bf16
from mutransfer_cli.train.ensemble import Ensemble, Plan
from mutransfer_cli.train.execution import EAGER, Execution
from mutransfer_cli.train.loop import Trainer
from mutransfer_cli.train.slots import Job

DeviceName = Literal["auto", "cpu", "cuda"]


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

    def header(self, device: torch.device) -> SweepHeader:
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
                "device": device_name(device),
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


def device_name(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return f"{device.type} {name}"


def choose_device(name: DeviceName, precision: str, deterministic: bool = False) -> torch.device:
    """The device of a run, with its matrix precision set.

    Raises:
        InputError: CUDA asked for and absent, or tf32 asked for without CUDA.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError(
            "--device cuda: torch sees no CUDA device; use --device cpu, or install a CUDA build "
            "of torch and check nvidia-smi"
        )
    device = torch.device("cuda" if available and name != "cpu" else "cpu")
    if precision == "tf32" and device.type == "cpu":
        raise InputError("train.precision: tf32 exists on CUDA only; use fp32 on a CPU")
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        if deterministic:
            make_deterministic()
    return device


def make_deterministic() -> None:
    """Same bits in every run on one kind of GPU; on a CPU that is so in any case."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before the first matrix product
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cuda.enable_cudnn_sdp(False)  # its backward is not


def slow_precision(device: torch.device, precision: str) -> str:
    """A sentence where the device only emulates the precision; else empty."""
    if precision == "bf16" and device.type == "cpu" and not cpu_has_bf16():
        return (
            "train.precision: this CPU has no bf16 units, and products in bf16 take 36 to 63 times "
            "as long as in fp32; use fp32"
        )
    return ""
