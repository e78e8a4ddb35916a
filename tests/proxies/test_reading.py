"""Roles from two widths and inits from values, on modules small enough to check by eye."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.reading import (
    Drawn,
    Weight,
    assign_roles,
    fan_in_axis,
    is_depthwise,
    read_inits,
    read_weights,
    shown,
)


def net(width: int, **extra: nn.Module) -> nn.Module:
    layers = {
        "embed": nn.Embedding(7, width),
        "up": nn.Linear(width, 2 * width),
        "head": nn.Linear(2 * width, 7, bias=False),
    }
    return nn.ModuleDict(layers | extra)


@pytest.mark.parametrize(
    ("owner", "leaf", "axis"),
    [
        (nn.Linear(2, 3), "weight", 1),
        (nn.Conv2d(2, 3, 1), "weight", 1),
        (nn.ConvTranspose1d(2, 3, 1), "weight", 0),
        (nn.Embedding(2, 3), "weight", 0),
        (nn.GRU(2, 3), "weight_hh_l0", 1),
        (nn.MultiheadAttention(2, 1), "in_proj_weight", 1),
        (nn.Bilinear(2, 2, 2), "weight", None),
        (nn.Linear(2, 3), "other", None),
    ],
)
def test_the_owner_tells_the_input_axis(owner: nn.Module, leaf: str, axis: int | None) -> None:
    assert fan_in_axis(owner, leaf) == axis


def test_a_convolution_whose_groups_grow_is_depthwise() -> None:
    assert is_depthwise(nn.Conv1d(4, 4, 3, groups=4), nn.Conv1d(8, 8, 3, groups=8))
    assert not is_depthwise(nn.Conv1d(4, 4, 3, groups=2), nn.Conv1d(8, 8, 3, groups=2))
    assert not is_depthwise(nn.Linear(4, 4), nn.Linear(8, 8))


def test_roles_follow_from_the_axes_that_grow() -> None:
    base = net(4)
    weights = read_weights(base, net(8))
    plan = assign_roles(weights, "head.weight", read_inits(base), {"up.weight": "embedding"})
    assert {p.name: (p.role, p.growing_axes, p.fan_in_axis) for p in plan} == {
        "embed.weight": ("embedding", (1,), 0),
        "up.weight": ("embedding", (0, 1), 1),
        "up.bias": ("vector", (0,), None),
        "head.weight": ("readout", (1,), 1),
    }


def test_two_models_that_are_not_one_at_two_widths_are_refused() -> None:
    with pytest.raises(InputError, match=r"different parameters \(norm.bias, norm.weight\)"):
        read_weights(net(4), net(8, norm=nn.LayerNorm(8)))
    with pytest.raises(InputError, match=r"does not grow: embed\.weight is 7 x 4"):
        read_weights(net(4), net(4))
    with pytest.raises(InputError, match=r"extra\.weight: is 3 at the base width and 3 x 3"):
        read_weights(net(4, extra=nn.LayerNorm(3)), net(8, extra=nn.LayerNorm((3, 3))))


def test_a_readout_whose_fan_out_grows_is_refused() -> None:
    weight = Weight("up.weight", (8, 4), (16, 8), 1, nn.Linear(4, 8), depthwise=False)
    with pytest.raises(InputError, match=r"fan-out grows with width \(8 x 4 and 16 x 8\)"):
        weight.role(is_readout=True)
    assert weight.role(is_readout=False) == "hidden"


def test_values_have_a_mean_and_a_std_and_constants_none() -> None:
    constant, few = Drawn.of(torch.full((70,), 3.0)), Drawn.of(torch.tensor([1.0, 3.0]))
    assert constant == Drawn(70, 3.0, 0.0)
    assert vars(few) == pytest.approx({"count": 2, "mean": 2, "std": 1})
    assert Drawn.of(torch.empty(0)) == Drawn(0, 0.0, 0.0)
    values = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    found = Drawn.of(0.02 * values + 1)
    assert found.mean == pytest.approx(1, rel=1e-3)
    assert found.std == pytest.approx(0.02, rel=1e-2)


def test_the_mean_of_a_vector_is_kept_and_that_of_a_matrix_is_noted() -> None:
    values = 1 + 0.02 * torch.randn(32, 64, generator=torch.Generator().manual_seed(0))
    notes: list[str] = []
    named = {"gain": nn.Parameter(values.flatten()), "matrix": nn.Parameter(values)}
    found = read_inits(nn.ParameterDict(named), notes.append)
    assert found["gain"].mean == pytest.approx(1, rel=1e-2)
    assert found["matrix"].mean == 0
    assert [note.partition(":")[0] for note in notes] == ["matrix"]


def test_the_same_parameter_of_blocks_has_one_std_if_it_differs_by_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    blocks = nn.ModuleList(nn.Linear(40, 40, bias=False) for _ in range(3))
    for block in blocks:
        nn.init.normal_(block.weight, std=0.1, generator=generator)  # type: ignore[arg-type]
    stds = {init.std for init in read_inits(blocks).values()}
    assert list(stds) == pytest.approx([0.1], rel=0.05)
    nn.init.normal_(blocks[2].weight, std=0.2, generator=generator)  # type: ignore[arg-type]
    assert len({init.std for init in read_inits(blocks).values()}) == 3


def test_shapes_are_shown_as_sizes() -> None:
    assert (shown((8, 16)), shown(())) == ("8 x 16", "a number")
