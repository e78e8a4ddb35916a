"""The settings of an optimizer, now and after steps that its scheduler has yet to take."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR

from mutransfer_cli.errors import InputError
from mutransfer_cli.recipe.optimizer_class import held_groups
from mutransfer_cli.recipe.scheduler import Settings, reach_of, settings, settings_ahead


def now(optimizer: torch.optim.Optimizer, scheduler: Any = None) -> list[Settings]:
    return settings(held_groups(optimizer), reach_of(scheduler).peaks)


def ahead(optimizer: torch.optim.Optimizer, scheduler: Any, steps: int) -> list[list[Settings]]:
    held = held_groups(optimizer)
    return list(settings_ahead(held, optimizer, scheduler, reach_of(scheduler), steps))


def adamw(lr: float = 0.1) -> torch.optim.AdamW:
    return torch.optim.AdamW(nn.Linear(2, 2).parameters(), lr=lr, weight_decay=0.2)


def test_settings_are_those_of_every_group() -> None:
    (found,) = now(adamw())
    assert (found.lr, found.peak, found.weight_decay, found.eps) == (0.1, None, 0.2, 1e-8)
    assert (found.betas, found.adds_decay_to_gradient) == ((0.9, 0.999), False)
    (sgd,) = now(torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1, weight_decay=0.2))
    assert (sgd.adds_decay_to_gradient, sgd.eps, sgd.betas) == (True, None, None)


def test_a_peak_is_what_the_schedule_multiplies() -> None:
    optimizer = adamw()
    LambdaLR(optimizer, lambda step: 0.5)
    assert now(optimizer)[0].peak == 0.1
    cycle = adamw()
    OneCycleLR(cycle, max_lr=0.4, total_steps=10)
    assert now(cycle)[0].peak == 0.4, "initial_lr is below it"


def test_steps_are_looked_ahead_and_not_taken() -> None:
    optimizer = adamw()
    scheduler = LambdaLR(optimizer, lambda step: 1 / (step + 1))
    rates = [found.lr for (found,) in ahead(optimizer, scheduler, 3)]
    assert rates == pytest.approx([0.1 / 2, 0.1 / 3, 0.1 / 4])
    assert optimizer.param_groups[0]["lr"] == 0.1
    assert scheduler.last_epoch == 0


def test_rates_that_are_tensors_are_put_back_in_place() -> None:
    lr = torch.tensor(0.1)
    optimizer = torch.optim.AdamW(nn.Linear(2, 2).parameters(), lr=lr)
    scheduler = LambdaLR(optimizer, lambda step: 0.5**step)
    there = optimizer.param_groups[0]["lr"]
    assert [f.lr for (f,) in ahead(optimizer, scheduler, 2)] == pytest.approx(
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
        ahead(optimizer, Asks(optimizer), 1)


class Noam:
    """A schedule that is called in place of the optimizer."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    def step(self) -> None:
        self.optimizer.step()


def test_a_scheduler_that_steps_the_optimizer_is_refused() -> None:
    optimizer = adamw()
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    before = [parameter.clone() for parameter in optimizer.param_groups[0]["params"]]
    with pytest.raises(InputError, match="the step of Noam also steps the optimizer, which would"):
        ahead(optimizer, Noam(optimizer), 1)
    assert all(map(torch.equal, before, optimizer.param_groups[0]["params"]))
    optimizer.step()
    assert not any(map(torch.equal, before, optimizer.param_groups[0]["params"]))


def test_what_a_scheduler_can_change_is_found_wherever_it_holds_it() -> None:
    optimizer, other = adamw(), adamw()
    first, second = LambdaLR(optimizer, lambda step: 1.0), LambdaLR(other, lambda step: 1.0)

    class Both:
        def __init__(self) -> None:
            self.parts = {"one": [first], "two": (second,)}
            self.kept = [dict(optimizer.param_groups[0])]

        def step(self) -> None: ...

    reach = reach_of(Both())
    assert {id(each) for each in reach.optimizers} == {id(optimizer), id(other)}
    assert {id(each) for each in reach.schedulers} >= {id(first), id(second)}
    assert [group["lr"] for group in reach.groups] == [0.1]
    assert id(optimizer.param_groups[0]) in reach.group_ids
    assert reach_of(None).group_ids == frozenset()
