"""What a sweep will cost, before it starts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from mutransfer_cli.data.text import DeviceText
from mutransfer_cli.files.records import TrialRecord
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.trials import pending, slot_count
from mutransfer_cli.train.cost import group_size, trial_cost

LONGEST_TIMED_STEP = 5.0  # seconds; longer steps are extrapolated from a smaller width


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
    sweep: Sweep, recorded: Mapping[str, TrialRecord], device: torch.device
) -> Iterator[WidthPrice]:
    """Prices each width by timing a few uncompiled steps of one group on the device."""
    throughput = 0.0
    text = DeviceText.on(device, sweep.corpus)
    for width, trials in sweep.trials.items():
        cost, size = trial_cost(sweep.protocol, width), group_size(sweep.protocol, width, device)
        to_run = len(pending(trials, recorded))
        group = trials[: slot_count(len(trials), size)]
        steps = sweep.protocol.train.steps
        flops_step = cost.flops / steps * len(group)
        measured = not throughput or flops_step / throughput < LONGEST_TIMED_STEP
        if measured:
            trainer = sweep.trainer(width, text, compiled=False)
            seconds = trainer.seconds_per_step(sweep.jobs(group))
            throughput = flops_step / seconds
        yield WidthPrice(
            width=width,
            trials=len(trials),
            pending=to_run,
            parameters=cost.parameters,
            group_size=len(group),
            flops=cost.flops * to_run,
            memory=cost.memory * len(group),
            seconds=cost.flops * to_run / throughput,
            measured=measured,
        )
