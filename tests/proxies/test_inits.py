"""Inits read off values."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mutransfer_cli.proxies.inits import Drawn, as_at_base, read_inits


def test_values_have_a_mean_and_a_std_and_constants_none() -> None:
    constant, few = Drawn.of(torch.full((70,), 3.0)), Drawn.of(torch.tensor([1.0, 3.0]))
    assert constant == Drawn(70, 3.0, 0.0)
    assert vars(few) == pytest.approx({"count": 2, "mean": 2, "std": 1})
    assert Drawn.of(torch.empty(0)) == Drawn(0, 0.0, 0.0)
    values = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    found = Drawn.of(0.02 * values + 1)
    assert found.mean == pytest.approx(1, rel=1e-3)
    assert found.std == pytest.approx(0.02, rel=1e-2)


def test_a_mean_that_may_be_chance_is_none() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(2048, generator=generator)
    named = {"gain": nn.Parameter(1 + 0.02 * drawn), "bias": nn.Parameter(0.02 * drawn)}
    found = read_inits(nn.ParameterDict(named))
    assert found["gain"].mean == pytest.approx(1, rel=1e-2)
    assert found["bias"].mean == 0


def test_the_same_parameter_of_blocks_has_one_std_if_it_differs_by_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    blocks = nn.ModuleList(nn.Linear(40, 40, bias=False) for _ in range(3))
    for block in blocks:
        nn.init.normal_(block.weight, std=0.1, generator=generator)  # type: ignore[arg-type]
    stds = {init.std for init in read_inits(blocks).values()}
    assert list(stds) == pytest.approx([0.1], rel=0.05)
    nn.init.normal_(blocks[2].weight, std=0.2, generator=generator)  # type: ignore[arg-type]
    assert len({init.std for init in read_inits(blocks).values()}) == 3


def test_a_draw_is_shifted_and_scaled_only_where_it_depends_on_width() -> None:
    """Torch's layers draw biases from +-fan_in^-1/2."""
    bias = torch.rand(400, generator=torch.Generator().manual_seed(0)) - 0.5
    assert torch.equal(as_at_base(bias, 0.0, 12**-0.5), bias)
    wider = as_at_base(bias / 2, 0.0, 12**-0.5)
    assert float(wider.std()) == pytest.approx(12**-0.5, rel=0.01)
    assert float(wider.mean()) == pytest.approx(0, abs=1e-6)
    constant = torch.ones(3)
    assert torch.equal(as_at_base(constant, 1.0, 0.0), constant)
