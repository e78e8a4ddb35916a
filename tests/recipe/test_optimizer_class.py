"""Updates by the name of the class, and groups inside wrappers; a table of many is in
`test_verify_table.py`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mutransfer_cli.recipe.optimizer_class import held_groups, layers, other_settings

AdamW = torch.optim.AdamW


def weights() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(2, 2))]


class AdamW8bit(AdamW):
    """An AdamW that keeps its state in 8 bits, by its name."""


class Clever(torch.optim.Optimizer):
    """An optimizer that nobody knows."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {"lr": 1e-3})

    def step(self, closure: Any = None) -> Any:
        raise NotImplementedError


class Wrapper:
    """A wrapper of a package that may change the update."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer
        self.param_groups = [dict(group) for group in optimizer.param_groups]


@pytest.mark.parametrize(
    ("optimizer", "update"),
    [
        (AdamW(weights()), "adamw"),
        (AdamW8bit(weights()), "adamw"),
        (torch.optim.Adam(weights()), "adam"),
        (torch.optim.NAdam(weights()), None),
        (torch.optim.RAdam(weights()), None),
        (torch.optim.SGD(weights()), "sgd"),
        (torch.optim.Adafactor(weights()), "adafactor"),
        (torch.optim.Muon(weights()), "muon"),
        (Clever(weights()), None),
        (Wrapper(AdamW(weights())), None),
    ],
    ids=lambda x: type(x).__name__,
)
def test_an_update_is_known_by_its_class(optimizer: Any, update: str | None) -> None:
    assert [held.update for held in held_groups(optimizer)] == [update]


def test_groups_are_those_of_the_optimizer_inside() -> None:
    inner = AdamW(weights())
    wrapped = Wrapper(inner)
    (held,) = held_groups(wrapped)
    assert held.group is inner.param_groups[0]
    assert layers(wrapped) == [wrapped, inner]


def test_settings_that_change_the_update_are_named() -> None:
    (held,) = held_groups(AdamW(weights(), amsgrad=True))
    (said,) = other_settings(held, "adamw", {"name": "adamw"})
    assert "amsgrad" in said
    (plain,) = held_groups(AdamW(weights()))
    assert not list(other_settings(plain, "adamw", {"name": "adamw"}))
