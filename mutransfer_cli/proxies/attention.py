"""Causal self-attention of the built-in proxy.

Shape suffixes: B batch, S context, D width, H heads, G kv heads, K head size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutransfer_cli.files.transformer import Architecture
from mutransfer_cli.proxies.norms import Norm

ROTARY_BASE = 10_000.0

Rotary = tuple[Tensor, Tensor]  # cosines and sines


def rotary_tables(context: int, head_size: int) -> Rotary:
    """Cosines and sines, each [context, head_size / 2]."""
    frequency = ROTARY_BASE ** -(torch.arange(0, head_size, 2) / head_size)
    angle = torch.outer(torch.arange(context, dtype=torch.float32), frequency)
    return angle.cos(), angle.sin()


def rotate(x_BHSK: Tensor, rotary: Rotary) -> Tensor:
    first, second = x_BHSK.chunk(2, dim=-1)
    cos_SK, sin_SK = (table.to(x_BHSK.dtype) for table in rotary)
    return torch.cat((first * cos_SK - second * sin_SK, first * sin_SK + second * cos_SK), dim=-1)


def repeated(x_BGSK: Tensor, times: int) -> Tensor:
    """Each kv head for the `times` query heads that share it, [B, G * times, S, K]."""
    B, G, S, K = x_BGSK.shape
    return x_BGSK.unsqueeze(2).expand(B, G, times, S, K).reshape(B, G * times, S, K)


class Attention(nn.Module):
    """
    Args:
        scale: factor on q.k.
    """

    def __init__(self, options: Architecture, width: int, scale: float) -> None:
        super().__init__()
        self.heads, self.kv_heads = options.heads_at(width), options.kv_heads_at(width)
        self.head_size, self.scale = options.head_size_at(width), scale
        self.qkv = self.query = self.kv = None
        if options.has_fused_qkv:
            self.qkv = nn.Linear(width, 3 * width, bias=options.biases)
        else:
            self.query = nn.Linear(width, width, bias=options.biases)
            self.kv = nn.Linear(width, 2 * self.kv_heads * self.head_size, bias=options.biases)
        self.out = nn.Linear(width, width, bias=options.biases)
        self.query_norm = self.key_norm = None
        if options.qk_norm:
            self.query_norm = Norm(options.norm, options.gains, self.head_size)
            self.key_norm = Norm(options.norm, options.gains, self.head_size)

    def forward(self, x_BSD: Tensor, rotary: Rotary | None) -> Tensor:
        B, S, D = x_BSD.shape
        q_BHSK, k_BGSK, v_BGSK = self.projections(x_BSD)
        if self.query_norm is not None and self.key_norm is not None:
            q_BHSK, k_BGSK = self.query_norm(q_BHSK), self.key_norm(k_BGSK)
        if rotary is not None:
            q_BHSK, k_BGSK = rotate(q_BHSK, rotary), rotate(k_BGSK, rotary)
        if self.kv_heads < self.heads:
            times = self.heads // self.kv_heads
            k_BGSK, v_BGSK = repeated(k_BGSK, times), repeated(v_BGSK, times)
        mixed_BHSK = F.scaled_dot_product_attention(
            q_BHSK, k_BGSK, v_BGSK, is_causal=True, scale=self.scale
        )
        out: Tensor = self.out(mixed_BHSK.transpose(1, 2).reshape(B, S, D))
        return out

    def projections(self, x_BSD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, H, S, K], keys and values [B, G, S, K]."""
        B, S, _ = x_BSD.shape
        if self.qkv is not None:
            qkv = self.qkv(x_BSD).view(B, S, 3, self.heads, self.head_size)
            q_BHSK, k_BHSK, v_BHSK = qkv.permute(2, 0, 3, 1, 4)
            return q_BHSK, k_BHSK, v_BHSK
        assert self.query is not None
        assert self.kv is not None
        q_BSHK = self.query(x_BSD).view(B, S, self.heads, self.head_size)
        kv = self.kv(x_BSD).view(B, S, 2, self.kv_heads, self.head_size)
        k_BGSK, v_BGSK = kv.permute(2, 0, 3, 1, 4)
        return q_BSHK.transpose(1, 2), k_BGSK, v_BGSK
