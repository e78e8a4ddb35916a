"""Attention scores before the softmax, against q.k computed by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.func import vmap

from mutransfer_cli.diagnose.forward import attention_scores
from mutransfer_cli.proxies.attention import AttentionCalls

HEAD_SIZE = 16


def queries_and_keys(key_heads: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys [batch, heads, positions, head size]."""
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(2, 4, 5, HEAD_SIZE, generator=generator),
        torch.randn(2, key_heads, 5, HEAD_SIZE, generator=generator),
    )


@pytest.mark.parametrize(
    ("scale", "factor"), [(None, 1.0), (1 / HEAD_SIZE, HEAD_SIZE**-0.5), (1.0, HEAD_SIZE**0.5)]
)
def test_scores_without_what_the_root_of_the_head_size_takes(
    scale: float | None, factor: float
) -> None:
    q, k = queries_and_keys()
    with AttentionCalls(attention_scores) as sees:
        F.scaled_dot_product_attention(q, k, k, is_causal=True, scale=scale)
    (scores,) = sees.found
    expected = factor * torch.einsum("bhqd,bhkd->bhqk", q, k)
    torch.testing.assert_close(scores, expected)


def test_one_head_of_keys_serves_several_of_queries() -> None:
    q, k = queries_and_keys(key_heads=2)
    with AttentionCalls(attention_scores) as sees:
        F.scaled_dot_product_attention(q, k, k, enable_gqa=True)
    (scores,) = sees.found
    for head in range(4):
        torch.testing.assert_close(scores[:, head], q[:, head] @ k[:, head // 2].mT)


def test_arguments_by_name_and_under_vmap() -> None:
    q, k = queries_and_keys()
    seen = []

    def attend(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        with AttentionCalls(attention_scores) as sees:
            out = F.scaled_dot_product_attention(query=query, key=key, value=key)
        seen.append(len(sees.found))
        return torch.stack([out.sum(), sees.found[0].sum()])

    found = vmap(attend)(q, k)[:, 1]
    assert seen == [1]
    torch.testing.assert_close(found, (q @ k.mT).sum((1, 2, 3)))
