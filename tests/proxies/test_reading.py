"""Parameters at two widths, on modules small enough to check by eye."""

from __future__ import annotations

import pytest
from torch import nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.reading import Weight, fan_in_axis, is_depthwise, read_weights, shown


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


def test_shapes_are_shown_as_sizes() -> None:
    assert (shown((8, 16)), shown(())) == ("8 x 16", "a number")
