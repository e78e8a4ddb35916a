"""Examines a machine: trains a tiny group on every rung in turn, as sweeps train."""

from __future__ import annotations

import copy
import math
import platform
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from mutransfer_cli import __version__
from mutransfer_cli.spec.records import ThroughputRecord, TrialRecord
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.strict import validated
from mutransfer_cli.sweep.choice import Rung, Settings
from mutransfer_cli.sweep.local import Workers, run, started_workers
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.spawn import worker_count
from mutransfer_cli.sweep.store import RecordStore
from mutransfer_cli.sweep.time_left import Planned
from mutransfer_cli.train.cgroups import usable_cores
from mutransfer_cli.train.device import available_memory, device_name, slow_precision
from mutransfer_cli.train.loop import ROUNDING, Progress

Precision = Literal["fp32", "tf32", "bf16"]
Steps = Literal["launched", "captured", "compiled"]
Key = tuple[float, int]

SLOTS = 4  # trials of the group, one for each rate
# seconds without a message after which a worker is given up; it is silent while it compiles
SILENCE = {"cpu": 15.0, "cuda": 60.0}
DRIVER = Path("/proc/driver/nvidia/version")
LAUNCHED = Rung(compiled=False, captured=False, slots=sys.maxsize)
SPEC: dict[str, Any] = {
    "schema": "mutransfer.sweep/1",
    "model": {"depth": 1, "head_size": 16},
    "data": {"source": "markov"},
    "parameterization": {"name": "mup", "base_width": 64},
    "optimizer": {"name": "adamw"},
    "train": {"steps": 40, "batch": 8, "context": 64, "warmup": 4, "eval_batches": 2},
    "sweep": {"widths": [64], "axes": {"lr": [2**-9, 2**-8, 2**-7, 2**-6]}},
}
REMEDIES: dict[Steps, str] = {
    "launched": "no sweep can train; see the message of the device, and report this output",
    "captured": "sweeps train launched step by step, which is slower; a newer driver or torch may "
    "help, and so does a report of this output",
    "compiled": "sweeps train without compilation; check that a C++ compiler is installed, and on "
    "CUDA that Triton is",
}


@dataclass(frozen=True)
class Machine:
    """The hardware and the software that sweeps use.

    Attributes:
        device: name of the device that sweeps train on by default.
        count: number of such devices.
        driver: version of the GPU's driver; empty on a CPU.
        memory: free bytes on the device.
        cores: CPU cores that this process may use.
    """

    device: str
    count: int
    driver: str
    memory: int
    cores: int
    platform: str
    python: str
    torch: str
    cuda: str
    mutransfer: str


@dataclass(frozen=True)
class RungReport:
    """The result of one way to run steps in one precision.

    Attributes:
        expected: this rung should work on this device.
        works: the group was trained this way with the losses of launched steps in fp32.
        difference: largest relative difference from those losses; None: nothing was trained.
        tokens_per_second: of the tiny group, which says little about large ones.
        start_seconds: time to build, compile and capture.
        matrix_peak: FLOP/s of a large matrix product in this precision.
        reason: why it does not work or is not expected; empty if it works.
    """

    precision: Precision
    steps: Steps
    expected: bool
    works: bool
    difference: float | None = None
    tokens_per_second: float | None = None
    start_seconds: float | None = None
    matrix_peak: float | None = None
    reason: str = ""

    @property
    def remedy(self) -> str:
        return REMEDIES[self.steps] if self.expected and not self.works else ""


@dataclass(frozen=True)
class Report:
    """The whole result; `processes` says whether worker processes could be started."""

    machine: Machine
    workers: int
    processes: bool
    rungs: Sequence[RungReport]

    @property
    def healthy(self) -> bool:
        """Whether every expected rung works, in worker processes."""
        return self.processes and all(rung.works or not rung.expected for rung in self.rungs)

    @property
    def use(self) -> str:
        """How a sweep will train here, in one sentence."""
        works = {rung.steps for rung in self.rungs if rung.works and rung.precision == "fp32"}
        where = f"in {self.workers} worker processes" if self.processes else "in its own process"
        if "captured" in works:
            compiled = ", compiled where that saves time" if "compiled" in works else ""
            return f"sweeps train {where}, in CUDA graphs{compiled}"
        if "launched" in works:
            return f"sweeps train {where}, launched step by step"
        return "no sweep can train on this device"


@dataclass
class Trained:
    """The result of training the tiny group, collected as an observer.

    Attributes:
        losses: eval losses by rate and seed.
        failed: errors of the trials without a loss.
        notes: notes to the user.
    """

    losses: dict[Key, float] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    speed: ThroughputRecord | None = None
    notes: list[str] = field(default_factory=list)

    def planned(self, groups: Sequence[Planned], at_once: int | None) -> None:
        """Ignore the plan of a tiny group."""

    def dropped(self, width: int, group: str) -> None:
        """Ignore an attempt that is made again."""

    def stepped(self, width: int, group: str, progress: Progress) -> None:
        """Ignore the progress of a tiny group."""

    def recorded(self, records: Sequence[TrialRecord]) -> None:
        for record in records:
            if record.eval_loss is None:
                self.failed.append(record.error or record.status)
            else:
                self.losses[record.lr, record.seed] = record.eval_loss

    def measured(self, throughput: ThroughputRecord) -> None:
        self.speed = throughput

    def noted(self, sentence: str) -> None:
        self.notes.append(sentence)


def examine(device: torch.device) -> Iterator[RungReport | Report]:
    """Train on every rung in turn; yield the result of each, and finally the whole report."""
    count = worker_count(None, device.type, trials=sys.maxsize)
    notes: list[str] = []
    reports: list[RungReport] = []
    with started_workers(device, count, notes.append) as workers:
        # every worker has a trial of the reference, which the other rungs are compared with
        reference = train(workers, "fp32", LAUNCHED, seeds=-(-count // SLOTS))
        alone = replace(workers, count=1)
        for precision, steps in rungs(device):
            # on CUDA compiled steps are captured too
            captured = device.type == "cuda" and steps != "launched"
            wanted = Rung(steps == "compiled", captured, sys.maxsize)
            first = (precision, wanted) == ("fp32", LAUNCHED)
            trained = reference if first else train(alone, precision, wanted, seeds=1)
            expected, why_not = is_expected(device, precision, steps)
            report = RungReport(precision, steps, expected, works=False, reason=why_not)
            reports.append(judged(report, wanted, trained, reference))
            yield reports[-1]
    yield Report(machine(device, count), count, not notes, reports)


def rungs(device: torch.device) -> list[tuple[Precision, Steps]]:
    """All rungs of a device; the first is the reference for the others."""
    if device.type == "cpu":
        return [("fp32", "launched"), ("bf16", "launched"), ("fp32", "compiled")]
    each: list[Steps] = ["launched", "captured", "compiled"]
    return [*(("fp32", s) for s in each), ("tf32", "captured"), *(("bf16", s) for s in each)]


def is_expected(device: torch.device, precision: Precision, steps: Steps) -> tuple[bool, str]:
    """Whether a rung should work on a device, and why not."""
    if device.type == "cuda":
        major, _ = torch.cuda.get_device_capability(device)
        old = precision != "fp32" and major < 8
        return not old, f"{precision} needs compute capability 8.0 or more" if old else ""
    if slow := slow_precision(device, precision):
        return False, slow
    if steps == "compiled":
        return False, (
            "on a CPU sweeps compile only when told to, because the first compilation takes a "
            "minute or more"
        )
    return True, ""


def train(workers: Workers, precision: Precision, limit: Rung, seeds: int) -> Trained:
    """Train the group in worker processes, on the rung `limit` or a lower one."""
    raw = copy.deepcopy(SPEC)
    raw["train"]["precision"], raw["sweep"]["seeds"] = precision, list(range(seeds))
    sweep = Sweep.prepare(validated(SweepSpec, raw, "doctor"), Path())
    settings = Settings(
        "on" if limit.compiled else "off",
        deterministic=False,
        checkpoint_every=math.inf,
        timeout=SILENCE[workers.kind],
        limit=limit,
    )
    trained = Trained()
    with (
        tempfile.TemporaryDirectory() as folder,
        RecordStore(Path(folder), sweep.header(None)) as store,
    ):
        run(sweep, store, workers, settings, trained, lambda: None)
    return trained


def judged(report: RungReport, wanted: Rung, trained: Trained, reference: Trained) -> RungReport:
    """Complete a rung's report with the result of training on it.

    Args:
        reference: the result of launched steps in fp32.
    """
    speed = trained.speed
    if trained.failed or speed is None:
        return replace(report, reason=trained.failed[0] if trained.failed else trained.notes[-1])
    if (speed.compiled, speed.captured) != (wanted.compiled, wanted.captured):
        reason = trained.notes[-1] if trained.notes else "it was not tried"
        return replace(report, reason=f"{report.reason}; {reason}" if report.reason else reason)
    difference = max(abs(x / reference.losses[key] - 1) for key, x in trained.losses.items())
    report = replace(
        report,
        difference=difference,
        tokens_per_second=speed.tokens_per_second,
        start_seconds=speed.start_seconds,
        matrix_peak=speed.matrix_peak,
    )
    if difference > ROUNDING[report.precision]:
        reason = f"losses differ by {difference:.1e} from those of launched steps in fp32"
        return replace(report, reason=reason)
    return replace(report, works=True)


def machine(device: torch.device, count: int) -> Machine:
    driver = DRIVER.read_text().splitlines()[0] if DRIVER.exists() else ""
    return Machine(
        device=device_name(device),
        count=count if device.type == "cuda" else 1,
        driver=driver,
        memory=available_memory(device),
        cores=usable_cores(),
        platform=platform.platform(),
        python=platform.python_version(),
        torch=torch.__version__,
        cuda=torch.version.cuda or "",
        mutransfer=__version__,
    )
