from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.cost import trial_cost

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
