from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mutransfer_cli.errors import InputError
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.cost import available_memory, group_size, trial_cost
from tests.conftest import CPU

Prepare = Callable[[dict[str, Any]], Sweep]


def test_parameters_and_flops_are_those_of_the_module(
    tiny: dict[str, Any], prepare: Prepare
) -> None:
    """torch counts the whole attention square where the formula counts its causal half."""
    tiny["model"]["depth"] = 2
    sweep = prepare(tiny)
    protocol, model = sweep.protocol, sweep.model(32)
    cost = trial_cost(protocol, 32)
    assert cost.parameters == sum(p.numel() for p in model.parameters())
    tokens = torch.zeros(protocol.train.batch, protocol.train.context, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(tokens).sum().backward()
    counts = counter.get_flop_counts()["Global"]
    products = sum(n for op, n in counts.items() if "attention" not in str(op))
    attention = 6 * 2 * protocol.train.context * 32 * protocol.batch_tokens
    assert cost.flops == (products + attention) * protocol.train.steps


def test_memory_bounds_the_group(tiny: dict[str, Any], prepare: Prepare) -> None:
    protocol = prepare(tiny).protocol
    size = group_size(protocol, 16, CPU)
    assert size > 1
    assert size * trial_cost(protocol, 16).memory <= available_memory(CPU) // 2
    assert group_size(protocol, 8192, CPU) == 1


def test_a_trial_that_cannot_fit_is_refused_with_both_figures(
    tiny: dict[str, Any], prepare: Prepare
) -> None:
    protocol = prepare(tiny).protocol
    with pytest.raises(InputError, match=r"width 8000000: one trial needs about \d+\.\d GB and"):
        group_size(protocol, 8_000_000, CPU)
