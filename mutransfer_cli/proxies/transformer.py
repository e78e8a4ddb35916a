"""The built-in proxy: a plain decoder transformer whose width grows by heads.

It knows nothing of parameterizations: multipliers, init and learning rates come from a plan.
Shape suffixes: B batch, S context, D width, H heads, K head size, V vocabulary.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ROTARY_BASE = 10_000.0
NORM_EPS = 1e-6
MLP_RATIO = 4


def rms_norm(x_BSD: Tensor) -> Tensor:
    """RMSNorm without gain, written out: the fused backward has no batching rule."""
    return x_BSD * torch.rsqrt(x_BSD.square().mean(-1, keepdim=True) + NORM_EPS)


def rotary_tables(context: int, head_size: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each [context, head_size / 2]."""
    frequency = ROTARY_BASE ** -(torch.arange(0, head_size, 2) / head_size)
    angle = torch.outer(torch.arange(context, dtype=torch.float32), frequency)
    return angle.cos(), angle.sin()


def rotate(x_BHSK: Tensor, cos_SK: Tensor, sin_SK: Tensor) -> Tensor:
    first, second = x_BHSK.chunk(2, dim=-1)
    cos_SK, sin_SK = cos_SK.to(x_BHSK.dtype), sin_SK.to(x_BHSK.dtype)
    return torch.cat((first * cos_SK - second * sin_SK, first * sin_SK + second * cos_SK), dim=-1)


class Attention(nn.Module):
    def __init__(self, width: int, head_size: int, scale: float) -> None:
        super().__init__()
        self.heads, self.head_size, self.scale = width // head_size, head_size, scale
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x_BSD: Tensor, cos_SK: Tensor, sin_SK: Tensor) -> Tensor:
        B, S, D = x_BSD.shape
        qkv = self.qkv(x_BSD).view(B, S, 3, self.heads, self.head_size)
        q_BHSK, k_BHSK, v_BHSK = qkv.permute(2, 0, 3, 1, 4)
        q_BHSK, k_BHSK = rotate(q_BHSK, cos_SK, sin_SK), rotate(k_BHSK, cos_SK, sin_SK)
        mixed_BHSK = F.scaled_dot_product_attention(
            q_BHSK, k_BHSK, v_BHSK, is_causal=True, scale=self.scale
        )
        out: Tensor = self.out(mixed_BHSK.transpose(1, 2).reshape(B, S, D))
        return out


class Block(nn.Module):
    def __init__(self, width: int, head_size: int, scale: float) -> None:
        super().__init__()
        self.attention = Attention(width, head_size, scale)
        self.up = nn.Linear(width, MLP_RATIO * width, bias=False)
        self.down = nn.Linear(MLP_RATIO * width, width, bias=False)

    def forward(self, x_BSD: Tensor, cos_SK: Tensor, sin_SK: Tensor) -> Tensor:
        x_BSD = x_BSD + self.attention(rms_norm(x_BSD), cos_SK, sin_SK)
        mlp_BSD: Tensor = self.down(F.gelu(self.up(rms_norm(x_BSD))))
        return x_BSD + mlp_BSD


class Transformer(nn.Module):
    """Pre-norm decoder: RMSNorm without gains, rotary positions, GELU MLP x4, untied readout.

    Args:
        width: residual width D; a multiple of `head_size`.
        depth: number of blocks.
        head_size: K, even; the number of heads is width / head_size.
        vocab: V, number of tokens.
        context: longest sequence.
        attention_scale: factor on q.k, 1/K under muP (Lingle 2024, arXiv 2404.05728).
    """

    cos_SK: Tensor
    sin_SK: Tensor

    def __init__(
        self,
        width: int,
        depth: int,
        head_size: int,
        vocab: int,
        context: int,
        attention_scale: float,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.blocks = nn.ModuleList(Block(width, head_size, attention_scale) for _ in range(depth))
        self.readout = nn.Linear(width, vocab, bias=False)
        cos_SK, sin_SK = rotary_tables(context, head_size)
        self.register_buffer("cos_SK", cos_SK, persistent=False)
        self.register_buffer("sin_SK", sin_SK, persistent=False)

    def init_stds(self) -> dict[str, float]:
        """Std of each weight's normal init at this width: embedding 1, matrices fan_in^-1/2."""
        return {
            name: 1.0 if name.startswith("embedding") else weight.shape[1] ** -0.5
            for name, weight in self.named_parameters()
        }

    def before_readout(self, tokens_BS: Tensor) -> Tensor:
        """What the readout reads, [B, S, D]."""
        S = tokens_BS.shape[1]
        x_BSD = self.embedding(tokens_BS)
        for block in self.blocks:
            x_BSD = block(x_BSD, self.cos_SK[:S], self.sin_SK[:S])
        return rms_norm(x_BSD)

    def forward(self, tokens_BS: Tensor) -> Tensor:
        """Logits [B, S, V]."""
        logits_BSV: Tensor = self.readout(self.before_readout(tokens_BS))
        return logits_BSV
