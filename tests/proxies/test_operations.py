"""Facts about operations and tensors, on tensors small enough to check by eye."""

from __future__ import annotations

import torch

from mutransfer_cli.proxies.operations import at, leaves, line_of_code, overlaps, size_of


def test_sizes_leave_out_what_a_mask_removes() -> None:
    assert size_of(torch.tensor([3.0, -torch.inf, torch.finfo(torch.float32).min])) == 3.0
    assert size_of(torch.tensor([-torch.inf])) == 0.0


def test_leaves_are_the_items_of_nested_structures() -> None:
    assert list(leaves({"a": [1, (2, 3)], "b": 4})) == [1, 2, 3, 4]


def test_views_share_an_address_and_an_expanded_axis_overlaps() -> None:
    x = torch.zeros(2, 3)
    assert at(x.mT[1:]) == at(x) != at(x.clone())
    assert overlaps(x[:1].expand(4, 3))
    assert not overlaps(x.mT)


def test_the_line_of_code_is_that_of_the_user() -> None:
    assert line_of_code().startswith("test_operations.py:")
