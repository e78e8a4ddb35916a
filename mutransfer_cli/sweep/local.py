"""Runs a sweep on this machine: group by group, each recorded as soon as it is finished."""

from __future__ import annotations

import platform
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal, Protocol as Interface

import torch

from mutransfer_cli import __version__
from mutransfer_cli.data.text import BYTE_VOCAB, Corpus, check_size, load_corpus
from mutransfer_cli.errors import InputError
from mutransfer_cli.files.records import (
    TRIAL_SCHEMA,
    BaseParameterRecord,
    Protocol,
    SweepHeader,
    TrialRecord,
    finite_or_none,
)
from mutransfer_cli.files.spec import SweepSpec
from mutransfer_cli.proxies.build import base_plan, build_proxy
from mutransfer_cli.rules.plan import BaseParameter, BaseValues, plan
from mutransfer_cli.sweep.store import RecordStore
from mutransfer_cli.sweep.trials import Group, Trial, expand, pending_groups
from mutransfer_cli.train.cost import Cost, group_size, trial_cost
from mutransfer_cli.train.ensemble import Ensemble, Plan
from mutransfer_cli.train.loop import GroupResult, GroupTrainer, Progress

CompileMode = Literal["auto", "on", "off"]
DeviceName = Literal["auto", "cpu", "cuda"]
LONGEST_TIMED_STEP = 5.0  # seconds; a dry run extrapolates beyond it


class Observer(Interface):
    """Who watches a sweep."""

    def width_started(self, width: int, trials: int, finished: int, cost: Cost) -> None: ...

    def stepped(self, width: int, progress: Progress) -> None: ...

    def recorded(self, width: int, records: Sequence[TrialRecord], seconds: float) -> None: ...


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
        protocol = Protocol.of(spec, corpus.protocol, BYTE_VOCAB)
        trials = expand(spec.sweep, protocol.hash)
        return cls(protocol, corpus, base_plan(protocol), trials)

    def header(self, device: torch.device) -> SweepHeader:
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
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
                "device": f"{device.type} {name}",
            },
        )

    def trial_plan(self, trial: Trial) -> Plan:
        optimizer, rule = self.protocol.optimizer, self.protocol.parameterization
        values = BaseValues(trial.lr, optimizer.weight_decay, optimizer.eps)
        return plan(self.base_plan, rule.name, rule.base_width, trial.width, values)

    def trainer(self, width: int, device: torch.device, compiled: bool) -> GroupTrainer:
        train, betas = self.protocol.train, self.protocol.optimizer.betas
        model = build_proxy(self.protocol, width)
        return GroupTrainer(Ensemble(model, train, betas, device, compiled), self.corpus, train)


def choose_device(name: DeviceName, precision: str) -> torch.device:
    """The device of a run, with its matrix precision set.

    Raises:
        InputError: CUDA asked for and absent, or a precision that the device does not have.
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
    return device


def run(
    sweep: Sweep,
    store: RecordStore,
    device: torch.device,
    compile_mode: CompileMode,
    observer: Observer,
    emit: Callable[[Sequence[TrialRecord]], None],
) -> None:
    """Trains every trial that has no finished record; `emit` gets each group's new records."""
    compiled = compile_mode == "on" or (compile_mode == "auto" and device.type == "cuda")
    for width, trials in sweep.trials.items():
        size = group_size(sweep.protocol, width, device)
        groups = pending_groups(trials, store.trials, size)
        pending = sum(len(group.missing) for group in groups)
        cost = trial_cost(sweep.protocol, width)
        observer.width_started(width, len(trials), len(trials) - pending, cost)
        trainer = sweep.trainer(width, device, compiled) if groups else None
        for group in groups:
            assert trainer is not None
            records, curves, seconds = _train(sweep, trainer, group, cost, observer)
            with uninterrupted():
                store.append(records, curves)
                emit(records)
            observer.recorded(width, records, seconds)


def _train(
    sweep: Sweep, trainer: GroupTrainer, group: Group, cost: Cost, observer: Observer
) -> tuple[list[TrialRecord], list[dict[str, object]], float]:
    """New records and curves of a group, and its wall time."""
    plans = [sweep.trial_plan(trial) for trial in group.trials]
    try:
        result = trainer.run(
            plans,
            [trial.seed for trial in group.trials],
            lambda progress: observer.stepped(group.width, progress),
        )
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        return [_failed(trial, group, error) for trial in group.trials], [], 0.0
    records, curves = [], []
    for index, trial in enumerate(group.trials):
        if trial.id in group.missing:
            records.append(_record(sweep.protocol, trial, index, group, result, cost))
            steps, losses = result.curve(index)
            curves.append({"trial": trial.id, "step": steps, "train_loss": losses})
    return records, curves, result.seconds


def _record(
    protocol: Protocol, trial: Trial, index: int, group: Group, result: GroupResult, cost: Cost
) -> TrialRecord:
    diverged_at = result.diverged_at(index)
    steps = len(result.train_losses)
    finite = diverged_at is None
    return TrialRecord(
        trial=trial.id,
        width=trial.width,
        seed=trial.seed,
        lr=trial.lr,
        status="ok" if finite else "diverged",
        train_loss=finite_or_none(result.final_train_loss(index)) if finite else None,
        eval_loss=finite_or_none(float(result.eval_losses[index])) if finite else None,
        diverged_at=diverged_at,
        steps=steps,
        tokens=steps * protocol.batch_tokens,
        flops=cost.flops * steps / protocol.train.steps,
        seconds=round(result.seconds / len(group.trials), 4),
        group=group.id,
        group_size=len(group.trials),
    )


def _failed(trial: Trial, group: Group, error: RuntimeError) -> TrialRecord:
    return TrialRecord(
        trial=trial.id,
        width=trial.width,
        seed=trial.seed,
        lr=trial.lr,
        status="failed",
        train_loss=None,
        eval_loss=None,
        steps=0,
        tokens=0,
        flops=0.0,
        seconds=0.0,
        group=group.id,
        group_size=len(group.trials),
        error=str(error).splitlines()[0],
    )


def _is_out_of_memory(error: RuntimeError) -> bool:
    # the CPU allocator raises a plain RuntimeError
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Holds Ctrl-C back until the block is done, so that no record is cut in two."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []

    def hold(number: int, frame: FrameType | None) -> None:
        held.append(number)

    previous = signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if held:
        raise KeyboardInterrupt


@dataclass(frozen=True)
class WidthPrice:
    """What one width of a sweep will cost.

    Attributes:
        trials, pending: in the spec, and without a finished record.
        group_size: trials trained together.
        flops: of all pending trials; memory: predicted peak bytes of one group.
        seconds: of all pending trials; `measured` when steps were timed at this width, else
            extrapolated from the throughput of a smaller one.
    """

    width: int
    trials: int
    pending: int
    parameters: int
    group_size: int
    flops: float
    memory: int
    seconds: float
    measured: bool


def price(
    sweep: Sweep, recorded: dict[str, TrialRecord], device: torch.device
) -> Iterator[WidthPrice]:
    """Prices each width by timing a few uncompiled steps of one group on the device."""
    throughput = 0.0
    for width, trials in sweep.trials.items():
        cost, size = trial_cost(sweep.protocol, width), group_size(sweep.protocol, width, device)
        pending = sum(len(g.missing) for g in pending_groups(trials, recorded, size))
        group = trials[: min(size, len(trials))]
        steps = sweep.protocol.train.steps
        flops_step = cost.flops / steps * len(group)
        measured = not throughput or flops_step / throughput < LONGEST_TIMED_STEP
        if measured:
            trainer = sweep.trainer(width, device, compiled=False)
            seconds = trainer.seconds_per_step(
                [sweep.trial_plan(trial) for trial in group], [trial.seed for trial in group]
            )
            throughput = flops_step / seconds
        yield WidthPrice(
            width=width,
            trials=len(trials),
            pending=pending,
            parameters=cost.parameters,
            group_size=size,
            flops=cost.flops * pending,
            memory=cost.memory * len(group),
            seconds=cost.flops * pending / throughput,
            measured=measured,
        )
