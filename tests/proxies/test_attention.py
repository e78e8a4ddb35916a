"""The observer of attention sees every call of torch's function, with its arguments by name."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch.func import vmap

from mutransfer_cli.proxies.attention import AttentionCalls

X = torch.ones(2, 3, 4)


def names(**arguments: Any) -> list[str]:
    return list(arguments)


def test_arguments_come_by_name_however_they_are_given() -> None:
    with AttentionCalls(names) as calls:
        F.scaled_dot_product_attention(X, X, X, None, 0.0, True)
        F.scaled_dot_product_attention(X, key=X, value=X, scale=0.5)
    assert calls.found == [
        ["query", "key", "value", "attn_mask", "dropout_p", "is_causal"],
        ["query", "key", "value", "scale"],
    ]


def test_the_result_of_the_call_is_attentions_own_under_vmap_too() -> None:
    def attend(x: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(x, x, x, is_causal=True)

    stack = torch.randn(5, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    expected = vmap(attend)(stack)
    with AttentionCalls(lambda query, **_: query.shape) as calls:
        found = vmap(attend)(stack)
    torch.testing.assert_close(found, expected)
    assert calls.found == [(2, 3, 4)]


def test_other_functions_and_calls_outside_leave_nothing() -> None:
    calls = AttentionCalls(names)
    with calls:
        F.linear(torch.ones(2, 3), torch.ones(4, 3))
    F.scaled_dot_product_attention(X, X, X)
    assert calls.found == []
