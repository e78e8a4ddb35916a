"""The learning-rate schedule as a table."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mutransfer_cli.files.spec import TrainSpec


def schedule_factors(train: TrainSpec) -> Tensor:
    """Factor on the peak lr at each step, float32 [steps]: linear warm-up, then the schedule.

    Step s (from 0) of the warm-up has (s + 1) / warmup; after it progress p runs from 0 to 1 and
    the factor is 1 - p (linear), (1 + cos(pi p)) / 2 (cosine) or 1 (constant).
    """
    step = torch.arange(train.steps, dtype=torch.float64)
    progress = (step - train.warmup) / (train.steps - train.warmup)
    match train.schedule:
        case "linear":
            after = 1 - progress
        case "cosine":
            after = (1 + torch.cos(math.pi * progress)) / 2
        case "constant":
            after = torch.ones_like(step)
    if train.warmup:
        after = torch.where(step < train.warmup, (step + 1) / train.warmup, after)
    return after.float()
