from __future__ import annotations

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.optim.listed import OPTIMIZERS
from mutransfer_cli.rules.choices import ROLES, Role, role_of


@pytest.mark.parametrize(
    ("growing_axes", "fan_in_axis", "is_readout", "role"),
    [
        ((1,), 0, False, "embedding"),  # nn.Embedding [vocab, width]
        ((0,), 1, False, "embedding"),  # nn.Linear [width, inputs]
        ((0, 1), 1, False, "hidden"),
        ((1,), 1, False, "hidden"),  # a router or fixed kv heads: only fan-in grows
        ((1,), 1, True, "readout"),
        ((0,), None, False, "vector"),
        ((), None, False, "scalar"),
        ((), 1, False, "scalar"),
    ],
)
def test_roles(
    growing_axes: tuple[int, ...], fan_in_axis: int | None, is_readout: bool, role: Role
) -> None:
    assert role_of("w", growing_axes, fan_in_axis, is_readout) == role


def test_a_readout_whose_fan_in_does_not_grow_is_named() -> None:
    with pytest.raises(InputError, match=r"readout head\.weight: its fan-in does not grow"):
        role_of("head.weight", (0,), 1, is_readout=True)


def test_muon_updates_hidden_matrices_and_adamw_the_rest() -> None:
    muon = OPTIMIZERS["muon"]
    assert [muon.of_role(role).name for role in ROLES] == ["adamw", "muon", *["adamw"] * 3]
    assert {OPTIMIZERS["sgd"].of_role(role).name for role in ROLES} == {"sgd"}


@pytest.mark.parametrize(
    ("name", "rescalings"),
    [("sgd", 2), ("adam", 1), ("lion", 1), ("muon", 1), ("adafactor", 0)],
)
def test_how_often_rescaling_a_weight_enters_its_rate(name: str, rescalings: int) -> None:
    """Under SGD, W/s has 1/s of the size and s times the gradient; Adam's steps keep their size."""
    assert OPTIMIZERS[name].rescalings("hidden") == rescalings
