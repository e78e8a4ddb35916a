"""Batches of any structure: mapped leaf by leaf, and listed with the places of their leaves."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch

from mutransfer_cli.proxies.batch import leaves, mapped


class Pair(NamedTuple):
    x: Any
    y: Any


BATCHES = [
    (3, [("", 3)]),
    ({"a": 3, "b": (4, {"c": 5})}, [("a", 3), ("b.0", 4), ("b.1.c", 5)]),
    (Pair(3, (4,)), [("0", 3), ("1.0", 4)]),
]


@pytest.mark.parametrize(("batch", "expected"), BATCHES)
def test_leaves_have_places(batch: Any, expected: list[tuple[str, int]]) -> None:
    assert list(leaves(batch)) == expected


@pytest.mark.parametrize("batch", [batch for batch, _ in BATCHES])
def test_a_mapped_batch_keeps_its_structure_and_type(batch: Any) -> None:
    doubled = mapped(lambda x, y: x + y, batch, batch)
    assert type(doubled) is type(batch)
    assert list(leaves(doubled)) == [(place, 2 * x) for place, x in leaves(batch)]


def test_a_tensor_is_one_leaf() -> None:
    assert torch.equal(mapped(lambda x: x + 1, torch.zeros(2)), torch.ones(2))
