"""What a sweep will cost, before it starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.files.records import TrialRecord
from mutransfer_cli.sweep.choice import Queue, Settings, size_of_group, with_capture
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.trials import pending
from mutransfer_cli.train.execution import EAGER
from mutransfer_cli.train.group_size import GroupSize, most_slots, slot_count

LONGEST_TIMED_STEP = 5.0  # seconds; longer steps are extrapolated from a smaller width


@dataclass(frozen=True)
class WidthPrice:
    """What one width of a sweep will cost.

    Attributes:
        trials, pending: in the spec, and without a finished record.
        group_size: trials trained together.
        flops: of all pending trials; memory: predicted peak bytes of one group.
        seconds: of all pending trials, divided among the workers; `measured` when steps were timed
            at this width, else extrapolated from the throughput of a smaller one.
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
    sweep: Sweep, recorded: Mapping[str, TrialRecord], device: torch.device, workers: int = 1
) -> Iterator[WidthPrice]:
    """Prices each width by timing a few uncompiled steps of groups on the device.

    Args:
        workers: that train at the same time; on a CPU with one thread each, as is timed.
    """
    throughput = 0.0
    if device.type == "cpu":
        torch.set_num_threads(1)
    text, settings = DeviceText.on(device, sweep.corpus), Settings("off", False, float("inf"))
    steps = sweep.protocol.train.steps
    for width, trials in sweep.trials.items():
        queue = Queue(sweep, {trial.id: trial for trial in trials}, text)
        cost, to_run = queue.cost, len(pending(trials, recorded))
        most = most_slots(sweep.protocol, width, cost, device)
        flops_step = cost.flops / steps * slot_count(len(trials), most)
        measured = not throughput or flops_step / throughput < LONGEST_TIMED_STEP
        if measured:
            execution = with_capture(EAGER, queue, settings)
            size = size_of_group(queue, execution, settings, always=True)
            assert size.seconds is not None, "asked for"
            throughput = cost.flops / steps / size.seconds
        else:
            slots = slot_count(len(trials), most)
            size = GroupSize(slots, cost.memory(slots))
        yield WidthPrice(
            width=width,
            trials=len(trials),
            pending=to_run,
            parameters=cost.parameters,
            group_size=size.slots,
            flops=cost.flops * to_run,
            memory=size.memory,
            seconds=cost.flops * to_run / throughput / workers,
            measured=measured,
        )
