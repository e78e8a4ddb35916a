from __future__ import annotations

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.rules.choices import Role, role_of


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
