"""Weights of period two."""

from __future__ import annotations

import math

import torch

from mutransfer_cli.proxies.observations import Use
from mutransfer_cli.proxies.patterns import Patterns

MATRIX = Use("product", (1,), (0, 1))
ROWS = Use("lookup", (0,), (0, 1))


def test_matrices_alternate_and_are_divided_by_what_their_products_sum_over() -> None:
    own = {"w": torch.randn(4, 6), "up": torch.randn(4, 3), "gain": torch.tensor([2.0, 2.0])}
    growing = {"w": (0, 1), "up": (0,), "gain": (0,)}
    uses = {"w": [MATRIX], "up": [MATRIX], "gain": [Use("elementwise", (), (0,))]}
    patterns = Patterns(growing, uses, own)
    small = patterns.values({"w": (4, 6), "up": (4, 3), "gain": (2,)})
    large = patterns.values({"w": (8, 12), "up": (8, 3), "gain": (4,)})
    assert torch.equal(small["w"], small["w"][:2, :2].repeat(2, 3))
    torch.testing.assert_close(large["w"], small["w"].repeat(2, 2) / 2)
    assert torch.equal(large["up"], small["up"].repeat(2, 1))
    assert patterns.divisor("up", (8, 3)) == math.sqrt(3)
    assert torch.equal(large["gain"], torch.full((4,), 2.0))


def test_what_starts_at_zero_gets_small_values_and_other_vectors_their_own() -> None:
    own = {"bias": torch.zeros(4), "decay": torch.tensor([1.0, 2.0, 3.0, 4.0])}
    found = Patterns({"bias": (0,), "decay": (0,)}, {}, own).values({"bias": (6,), "decay": (6,)})
    assert found["bias"].any()
    assert found["decay"].tolist() == [1, 2, 1, 2, 1, 2]


def test_a_tied_weight_is_not_divided() -> None:
    growing, own = {"w": (1,)}, {"w": torch.randn(5, 6)}
    assert Patterns(growing, {"w": [ROWS, MATRIX]}, own).is_tied("w")
    assert Patterns(growing, {"w": [ROWS, MATRIX]}, own).divisor("w", (5, 12)) == 1
    assert not Patterns(growing, {"w": [MATRIX]}, own).is_tied("w")
