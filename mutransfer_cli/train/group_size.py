"""The number of trials side by side: the fastest measured among those predicted to fit."""

from __future__ import annotations

import gc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.protocol import Protocol
from mutransfer_cli.train.cost import Cost
from mutransfer_cli.train.device import available_memory, is_out_of_memory
from mutransfer_cli.train.loop import StepCost, Trainer
from mutransfer_cli.train.slots import Job

CPU_TOKENS_PER_STEP = 8192  # a larger stack no longer fits in the cache
CPU_WIDTH_TOKENS = 1 << 19
CUDA_TOKENS_PER_STEP = 1 << 17
WORTH = 1.03  # smallest speed-up for which a larger group is chosen
TIMED_SHARE = 0.05  # share of all steps that timing may take
STEPS_TO_TIME = {"cpu": 3, "cuda": 10}  # steps to time one size, with warm-up and capture


@dataclass(frozen=True)
class GroupSize:
    """The chosen number of trials side by side.

    Attributes:
        slots: trials side by side.
        memory: predicted peak bytes; on CUDA from the measured peaks of one trial and of two.
        seconds: measured time per step and trial; None if training is too short to measure.
    """

    slots: int
    memory: int
    seconds: float | None = None


def most_slots(
    protocol: Protocol, width: int, cost: Cost, device: torch.device, sharing: int = 1
) -> int:
    """Largest number of slots worth trying: it fits in half the free memory and pays.

    Args:
        sharing: number of workers that share the memory.

    Raises:
        InputError: one trial alone is predicted not to fit.
    """
    one, free = cost.memory(1), available_memory(device) // sharing
    if one > free:
        raise InputError(
            f"width {width}: one trial needs about {one / 1e9:.1f} GB and {free / 1e9:.1f} GB are "
            f"free{f' for each of {sharing} workers' if sharing > 1 else ''}; make train.batch, "
            f"train.context or the width smaller{', or take fewer workers' if sharing > 1 else ''}"
        )
    return max(1, min(useful_slots(protocol, width, device.type), free // 2 // one))


def useful_slots(protocol: Protocol, width: int, device_type: str) -> int:
    """Number of slots beyond which more do not pay, regardless of memory.

    On a CPU a larger stack leaves the cache; on CUDA one step fills the device already.
    """
    if device_type == "cpu":
        useful = min(
            CPU_TOKENS_PER_STEP // protocol.batch_tokens,
            CPU_WIDTH_TOKENS // (protocol.batch_tokens * width),
        )
    else:
        useful = CUDA_TOKENS_PER_STEP // protocol.batch_tokens
    return max(1, useful)


def slot_count(trials: int, most: int) -> int:
    """Slots for the fewest rounds of at most `most` trials, with the fewest idle slots in them."""
    rounds = -(-trials // most)
    return -(-trials // rounds)


def fastest(
    trainer: Trainer,
    jobs: Sequence[Job],
    trials: int,
    cost: Cost,
    most: int,
    always: bool = False,
) -> GroupSize:
    """Choose the group size by timing 1, 2, 4, ... trials side by side while they should fit.

    Args:
        jobs: the first `most` jobs.
        trials: number of trials to train.
        most: largest number of slots.
        always: measure even if that takes more than TIMED_SHARE of the training.
    """
    largest = min(most, len(jobs))
    sizes = [2**power for power in range(largest.bit_length()) if 2**power < largest] + [largest]
    spent = STEPS_TO_TIME[trainer.ensemble.device.type] * sum(sizes)
    if not always and spent > TIMED_SHARE * trainer.train.steps * trials:
        slots = slot_count(trials, most)
        return GroupSize(slots, cost.memory(slots))
    measured: dict[int, StepCost] = {}
    for size in sizes:
        if predicted_memory(measured, cost, size) > available_memory(trainer.ensemble.device):
            break
        try:
            measured[size] = trainer.step_cost(jobs[:size])
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            break
        if trainer.ensemble.device.type == "cuda":
            gc.collect()  # frees graph and pool of the last size; takes a third of a second
    if not measured:
        return GroupSize(1, cost.memory(1))
    seconds = {size: found.seconds / size for size, found in measured.items()}
    chosen = smallest_as_fast(seconds, trials)
    slots = slot_count(trials, chosen)
    return GroupSize(slots, predicted_memory(measured, cost, slots), seconds[chosen])


def smallest_as_fast(seconds_a_trial: Mapping[int, float], trials: int) -> int:
    """Smallest size whose rounds over all trials take at most WORTH times the shortest time.

    Slots that idle in the last round take time too.

    Args:
        seconds_a_trial: time per step and trial by size, ascending.
    """
    seconds = {}
    for size, each in seconds_a_trial.items():
        slots = slot_count(trials, size)
        seconds[size] = each * slots * math.ceil(trials / slots)
    best = min(seconds.values())
    return next(size for size, took in seconds.items() if took <= WORTH * best)


def predicted_memory(measured: dict[int, StepCost], cost: Cost, slots: int) -> int:
    """Peak bytes: as measured, or affine in the slots from 1 and 2, or otherwise from `cost`."""
    peaks = {size: found.memory for size, found in measured.items() if found.memory is not None}
    if slots in peaks:
        return peaks[slots]
    if 1 in peaks and 2 in peaks:
        return peaks[1] + (slots - 1) * (peaks[2] - peaks[1])
    return cost.memory(slots)
