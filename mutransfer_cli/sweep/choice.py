"""The choice of how the trials of a width are run, and what that will cost.

A rung is one way to run them. Fastest first: compiled and captured in a CUDA graph, then captured,
then launched step by step, then launched with half as many trials side by side. If one fails, the
next lower one goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.spec.measurements import DiagnosticsSpec
from mutransfer_cli.spec.records import ThroughputRecord, TrialRecord
from mutransfer_cli.spec.yaml_io import content_hash
from mutransfer_cli.sweep.prepare import Sweep, Trial, name_of, pending
from mutransfer_cli.train.capture import MOST_VOCAB
from mutransfer_cli.train.checkpoint import Shape
from mutransfer_cli.train.cost import Cost
from mutransfer_cli.train.device import device_name
from mutransfer_cli.train.execution import Execution, allowed, pays
from mutransfer_cli.train.group_size import GroupSize, fastest, most_slots, slot_count
from mutransfer_cli.train.loop import Trainer

# the cause of a failure: the rung as a whole, its graph, its memory, or something else
Fault = Literal["rung", "capture", "memory", "elsewhere"]
CompileMode = Literal["auto", "on", "off"]

LONGEST_TIMED_STEP = 5.0  # seconds; longer steps are extrapolated from a smaller width


@dataclass(frozen=True)
class Rung:
    """How the steps of a group are run; as a limit, the highest rung that may be tried.

    Attributes:
        compiled: losses and update go through torch.compile.
        captured: the whole step is replayed from one CUDA graph.
        slots: trials side by side.
    """

    compiled: bool
    captured: bool
    slots: int

    @property
    def steps(self) -> str:
        """How the steps are run, in words."""
        if self.captured:
            return "compiled and in a CUDA graph" if self.compiled else "in a CUDA graph"
        return "compiled, launched step by step" if self.compiled else "launched step by step"

    def __str__(self) -> str:
        return f"{self.steps}, {self.slots} side by side"

    def under(self, limit: Rung) -> Rung:
        """The part of this rung that a limit allows."""
        return Rung(
            self.compiled and limit.compiled,
            self.captured and limit.captured,
            min(self.slots, limit.slots),
        )


def ran(throughput: ThroughputRecord) -> str:
    """How trials of one width were run, and how long that took, in words."""
    rung = Rung(throughput.compiled, throughput.captured, throughput.group_size)
    return (
        f"width {throughput.width}: {rung} on {throughput.device}; {throughput.seconds:.1f} s at "
        f"{throughput.tokens_per_second:,.0f} tokens/s, {throughput.start_seconds:.1f} s to start"
    )


TOP = Rung(compiled=True, captured=True, slots=sys.maxsize)
UNCOMPILED = replace(TOP, compiled=False, captured=False)


def next_lower(rung: Rung, fault: Fault) -> Rung | None:
    """The rung to try after `rung` has failed; None if there is none.

    A step that asks the host for a value is also never compiled again: an operation that breaks a
    CUDA graph breaks most of the compiler's graphs too.
    """
    if fault == "elsewhere":
        return None
    if fault == "capture" and rung.captured:
        return replace(rung, compiled=False, captured=False)
    if fault != "memory" and rung.compiled:
        return replace(rung, compiled=False)
    if fault != "memory" and rung.captured:
        return replace(rung, captured=False)
    return replace(rung, slots=rung.slots // 2) if rung.slots > 1 else None


@dataclass(frozen=True)
class Settings:
    """How the user wants trials to be run, which does not change what they compute.

    Attributes:
        compile_mode: `auto` compiles on CUDA if that saves more time than it takes.
        deterministic: every run gives the same bits, on CUDA too.
        checkpoint_every: seconds between checkpoints; infinite: never.
        diagnostics: when trials are measured; None: never.
        timeout: seconds without a message after which a worker is given up.
        sharing: number of workers that share the memory of the device.
    """

    compile_mode: CompileMode
    deterministic: bool
    checkpoint_every: float
    diagnostics: DiagnosticsSpec | None = None
    timeout: float = 600.0
    sharing: int = 1
    limit: Rung = TOP


@dataclass(frozen=True)
class Queue:
    """Trials of one width that pass through the same slots.

    Attributes:
        sweep: holds all trials of this width, with those that are finished.
        trials: the trials to train, by id.
        text: on the device of the training.
    """

    sweep: Sweep
    trials: Mapping[str, Trial]
    text: DeviceText

    @property
    def id(self) -> str:
        return name_of(self.trials.values())

    @property
    def width(self) -> int:
        return next(iter(self.trials.values())).width

    @property
    def device(self) -> torch.device:
        return self.text.device

    @property
    def cost(self) -> Cost:
        return self.sweep.cost(self.width)

    def trainer(self, execution: Execution) -> Trainer:
        return self.sweep.trainer(self.width, self.text, execution)


def choose_run(
    queue: Queue,
    settings: Settings,
    begun: Shape | None,
    note: Callable[[str], None],
    limit: Rung = TOP,
) -> tuple[Execution, int]:
    """Choose how the steps are run, and the number of slots.

    Args:
        begun: how trials with a checkpoint were run, which stays so.
    """
    if not may_compile(queue, settings) and not (begun and begun.compiled):
        limit = replace(limit, compiled=False)
    possible, sentence = model_allows(queue, limit)
    for reason in filter(None, (sentence, queue.text.note)):
        note(f"width {queue.width}: {reason}")
    compiled = possible.compiled and settings.compile_mode == "on"
    if begun:
        compiled = possible.compiled and begun.compiled
        # on a CPU an empty slot takes time, and no result depends on the number of slots
        slots = begun.slots if queue.device.type == "cuda" else min(begun.slots, len(queue.trials))
        slots = min(slots, limit.slots)
        return with_capture(replace(possible, compiled=compiled), queue, settings), slots
    eager = with_capture(replace(possible, compiled=False), queue, settings)
    size = size_of_group(queue, eager, settings, limit.slots)
    if possible.compiled and settings.compile_mode == "auto":
        compiled = size.seconds is not None and pays(
            size.seconds * queue.sweep.protocol.train.steps * len(queue.trials),
            compilation(queue, size.slots),
        )
    return with_capture(replace(possible, compiled=compiled), queue, settings), size.slots


def may_compile(queue: Queue, settings: Settings) -> bool:
    """Whether the user or the device has compiled steps."""
    auto = settings.compile_mode == "auto" and queue.device.type == "cuda"
    return auto or settings.compile_mode == "on"


def model_allows(queue: Queue, limit: Rung) -> tuple[Execution, str]:
    """The part of a limit that is right for the model, and why not all of it."""
    model = queue.sweep.model(queue.width).to(queue.device)
    wanted = Execution(compiled=limit.compiled, captured=limit.captured)
    return allowed(model, queue.sweep.example.to(queue.device), wanted)


def with_capture(execution: Execution, queue: Queue, settings: Settings) -> Execution:
    """Remove capture where it is impossible or wrong.

    The gradient of a large embedding can be captured only if compiled, with atomics, which rules
    out deterministic runs.
    """
    tables = (p for p in queue.sweep.base_plan if p.fan_in_axis == 0 and p.role != "hidden")
    large = any(table.shape[0] > MOST_VOCAB for table in tables)
    in_a_graph = execution.captured and queue.device.type == "cuda"
    if large:
        in_a_graph = in_a_graph and execution.compiled and not settings.deterministic
    return replace(execution, captured=in_a_graph)


def size_of_group(
    queue: Queue,
    execution: Execution,
    settings: Settings,
    limit: int = sys.maxsize,
    always: bool = False,
) -> GroupSize:
    """The number of slots: measured, or in deterministic runs predicted from all trials' number.

    Args:
        limit: largest number of slots.
        always: measure even if that takes long compared with the training.
    """
    sweep, cost = queue.sweep, queue.cost
    fitting = most_slots(sweep.protocol, queue.width, cost, queue.device, settings.sharing)
    most = min(fitting, limit) if execution.batched else 1
    if settings.deterministic:
        slots = slot_count(len(sweep.trials[queue.width]), most)
        return GroupSize(slots, cost.memory(slots))
    jobs = sweep.jobs(list(queue.trials.values())[:most])
    return fastest(queue.trainer(execution), jobs, len(queue.trials), cost, most, always)


def compilation(queue: Queue, slots: int) -> str:
    """A hash of everything that decides the compiled code, and of the device it is compiled for."""
    protocol = queue.sweep.protocol
    return content_hash(
        {
            "model": protocol.model.model_dump(mode="json"),
            "optimizer": protocol.optimizer.name,
            "train": [protocol.train.batch, protocol.train.context, protocol.train.precision],
            "width": queue.width,
            "slots": slots,
            "torch": torch.__version__,
            "device": device_name(queue.device),
        }
    )


@dataclass(frozen=True)
class WidthPrice:
    """Predicted cost of one width of a sweep.

    Attributes:
        trials: number in the spec.
        pending: number of these without a finished record.
        group: number of trials side by side, and their memory.
        seconds: time for all pending trials, divided among the workers.
        measured: steps were timed at this width; otherwise `seconds` is extrapolated from the
            throughput of a smaller one.
    """

    width: int
    trials: int
    pending: int
    cost: Cost
    group: GroupSize
    seconds: float
    measured: bool

    @property
    def flops(self) -> float:
        """FLOPs of all pending trials."""
        return self.cost.flops * self.pending


def price(
    sweep: Sweep, recorded: Mapping[str, TrialRecord], device: torch.device, workers: int = 1
) -> Iterator[WidthPrice]:
    """Price each width by timing a few uncompiled steps of a group on the device.

    Args:
        workers: number that train at the same time; on a CPU each has one thread, as when timed.
    """
    throughput = 0.0
    if device.type == "cpu":
        torch.set_num_threads(1)
    text, settings = DeviceText.on(device, sweep.corpus), Settings("off", False, float("inf"))
    steps = sweep.protocol.train.steps
    for width, trials in sweep.trials.items():
        queue = Queue(sweep, {trial.id: trial for trial in trials}, text)
        cost, to_run = queue.cost, len(pending(trials, recorded))
        slots = slot_count(len(trials), most_slots(sweep.protocol, width, cost, device))
        measured = not throughput or cost.flops / steps * slots / throughput < LONGEST_TIMED_STEP
        if measured:
            possible, _ = model_allows(queue, UNCOMPILED)
            execution = with_capture(possible, queue, settings)
            size = size_of_group(queue, execution, settings, always=True)
            assert size.seconds is not None, "always measured"
            throughput = cost.flops / steps / size.seconds
        else:
            size = GroupSize(slots, cost.memory(slots))
        seconds = cost.flops * to_run / throughput / workers
        yield WidthPrice(width, len(trials), to_run, cost, size, seconds, measured)
