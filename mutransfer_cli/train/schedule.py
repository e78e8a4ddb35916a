"""The learning-rate schedule as a tensor."""

from __future__ import annotations

import torch
from torch import Tensor

from mutransfer_cli.files.spec import TrainSpec
from mutransfer_cli.rules.schedule import schedule_factors


def schedule_tensor(train: TrainSpec) -> Tensor:
    """Factor on the peak lr at each step, float32 [steps]."""
    factors = schedule_factors(train.steps, train.warmup, train.schedule, train.decay_fraction)
    return torch.tensor(factors, dtype=torch.float64).float()
