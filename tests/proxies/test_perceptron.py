from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mutransfer_cli.proxies.build import read_base_plan
from mutransfer_cli.proxies.perceptron import MLP
from mutransfer_cli.spec.model import Activation


def small(width: int) -> MLP:
    return MLP(inputs=64, outputs=4, width=width, depth=2, activation="relu", normed=False)


def test_roles_shapes_and_growing_axes() -> None:
    plan = read_base_plan(small, base_width=16)
    assert {p.name: (p.role, p.shape, p.growing_axes) for p in plan} == {
        "input.weight": ("embedding", (16, 64), (0,)),
        "hidden.0.weight": ("hidden", (16, 16), (0, 1)),
        "hidden.1.weight": ("hidden", (16, 16), (0, 1)),
        "readout.weight": ("readout", (4, 16), (1,)),
    }


def test_init_stds_are_those_of_the_fan_in() -> None:
    assert {p.name: p.init_std for p in read_base_plan(small, base_width=16)} == {
        "input.weight": 1 / 8,
        "hidden.0.weight": 1 / 4,
        "hidden.1.weight": 1 / 4,
        "readout.weight": 1 / 4,
    }


def test_a_single_output_has_a_readout_too() -> None:
    """The readout is a matrix of one row; as a vector its rate would not fall with width."""
    plan = read_base_plan(lambda width: MLP(8, 1, width, 0, "relu", normed=False), base_width=16)
    assert [(p.name, p.role) for p in plan] == [
        ("input.weight", "embedding"),
        ("readout.weight", "readout"),
    ]


@pytest.mark.parametrize(
    ("name", "function"), [("relu", F.relu), ("gelu", F.gelu), ("tanh", torch.tanh)]
)
def test_it_is_a_matrix_an_activation_and_so_on(
    name: Activation, function: Callable[[Tensor], Tensor]
) -> None:
    torch.manual_seed(0)
    model = MLP(8, 3, 16, 2, name, normed=False)
    x = torch.randn(5, 8)
    first, second, third, last = model.parameters()
    expected = function(function(function(x @ first.T) @ second.T) @ third.T) @ last.T
    torch.testing.assert_close(model(x), expected)


def test_norms_take_the_scale_of_inner_matrices_out() -> None:
    torch.manual_seed(0)
    model, x = MLP(8, 3, 16, 1, "relu", normed=True), torch.randn(5, 8)
    before = model(x)
    with torch.no_grad():
        for weight in (model.input.weight, model.get_parameter("hidden.0.weight")):
            weight.mul_(7)
    torch.testing.assert_close(model(x), before, rtol=1e-4, atol=1e-5)
