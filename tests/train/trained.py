"""Trials trained side by side, as tensors to compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.sweep.prepare import Sweep, Trial
from mutransfer_cli.train.execution import Execution
from mutransfer_cli.train.loop import Trainer, TrialResult
from mutransfer_cli.train.slots import Job


@dataclass(frozen=True)
class Trained:
    """Results of T trials: train_losses [steps, T] (NaN after a divergence), eval_losses [T]."""

    train_losses: Tensor
    eval_losses: Tensor
    diverged_at: list[int | None]


def train_all(
    sweep: Sweep, trials: Sequence[Trial], device: torch.device, compiled: bool = False
) -> Trained:
    trainer = sweep.trainer(
        trials[0].width,
        DeviceText.on(device, sweep.corpus),
        Execution(compiled, captured=device.type == "cuda"),
    )
    return train_jobs(trainer, sweep.jobs(trials), len(trials))


def train_jobs(trainer: Trainer, jobs: Sequence[Job], slots: int) -> Trained:
    results: dict[str, TrialResult] = {}
    trainer.run(jobs, slots, results.update)
    losses = [results[job.id].train_losses for job in jobs]
    return Trained(
        torch.nn.utils.rnn.pad_sequence(losses, padding_value=torch.nan),
        torch.tensor([results[job.id].eval_loss for job in jobs]),
        [results[job.id].diverged_at for job in jobs],
    )
