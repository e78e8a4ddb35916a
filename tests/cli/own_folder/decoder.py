"""A small decoder of a user who has never heard of this tool."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD_SIZE = 8


class Block(nn.Module):
    def __init__(self, width: int, ratio: int, eps: float) -> None:
        super().__init__()
        self.heads = width // HEAD_SIZE
        self.before_attention = nn.RMSNorm(width, eps)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.before_mlp = nn.RMSNorm(width, eps)
        self.up = nn.Linear(width, ratio * width)
        self.down = nn.Linear(ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, context, width = x.shape
        heads = self.qkv(self.before_attention(x)).view(batch, context, 3, self.heads, HEAD_SIZE)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, context, width))
        out: Tensor = x + self.down(F.gelu(self.up(self.before_mlp(x))))
        return out


class Decoder(nn.Module):
    def __init__(self, width: int, vocab: int, context: int, ratio: int, eps: float) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab, width)
        self.positions = nn.Parameter(waves(context, width), requires_grad=False)
        self.blocks = nn.ModuleList(Block(width, ratio, eps) for _ in range(2))
        self.norm = nn.RMSNorm(width, eps)
        self.logits = nn.Linear(width, vocab, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.logits(self.norm(x))
        return out


def waves(context: int, width: int) -> Tensor:
    rates = torch.exp(-math.log(1e4) * torch.arange(0, width, 2) / width)
    angles = torch.arange(context).unsqueeze(1) * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def build(width: int, vocab: int, context: int, ratio: int, eps: float) -> Decoder:
    return Decoder(width, vocab, context, ratio, eps)
