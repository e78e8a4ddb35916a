"""The settings of an optimizer, now and after steps that its scheduler has yet to take."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR

from mutransfer_cli.errors import InputError
from mutransfer_cli.recipe.scheduler import settings, settings_ahead


def adamw(lr: float = 0.1) -> torch.optim.AdamW:
    return torch.optim.AdamW(nn.Linear(2, 2).parameters(), lr=lr, weight_decay=0.2)


def test_settings_are_those_of_every_group() -> None:
    (found,) = settings(adamw())
    assert (found.lr, found.peak, found.weight_decay, found.eps) == (0.1, None, 0.2, 1e-8)
    assert (found.betas, found.l2) == ((0.9, 0.999), False)
    (sgd,) = settings(torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1, weight_decay=0.2))
    assert (sgd.l2, sgd.eps, sgd.betas) == (True, None, None)


def test_a_peak_is_what_the_schedule_multiplies() -> None:
    optimizer = adamw()
    LambdaLR(optimizer, lambda step: 0.5)
    assert settings(optimizer)[0].peak == 0.1
    cycle = adamw()
    OneCycleLR(cycle, max_lr=0.4, total_steps=10)
    assert settings(cycle)[0].peak == 0.4, "initial_lr is below it"


def test_steps_are_looked_ahead_and_not_taken() -> None:
    optimizer = adamw()
    scheduler = LambdaLR(optimizer, lambda step: 1 / (step + 1))
    ahead = [found.lr for (found,) in settings_ahead(optimizer, scheduler, 3)]
    assert ahead == pytest.approx([0.1 / 2, 0.1 / 3, 0.1 / 4])
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert scheduler.last_epoch == 0


def test_rates_that_are_tensors_are_put_back_in_place() -> None:
    lr = torch.tensor(0.1)
    optimizer = torch.optim.AdamW(nn.Linear(2, 2).parameters(), lr=lr)
    scheduler = LambdaLR(optimizer, lambda step: 0.5**step)
    there = optimizer.param_groups[0]["lr"]
    assert [f.lr for (f,) in settings_ahead(optimizer, scheduler, 2)] == pytest.approx(
        [0.05, 0.025], rel=1e-6
    )
    assert optimizer.param_groups[0]["lr"] is there
    assert float(there) == pytest.approx(0.1)


class Asks:
    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    def step(self, loss: float) -> None: ...


def test_a_scheduler_whose_step_asks_for_something_is_refused() -> None:
    optimizer = adamw()
    with pytest.raises(InputError, match="the scheduler Asks cannot be stepped on a copy"):
        list(settings_ahead(optimizer, Asks(optimizer), 1))  # type: ignore[arg-type]
