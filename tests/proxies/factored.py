"""A small network whose own code may depend on width in one place or several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from mutransfer_cli.proxies.comparing import Comparison, Watch
from mutransfer_cli.proxies.example import Example

VOCAB = 11
Factor = Callable[[int], float]


class Small(nn.Module):
    """Embedding, attention with heads of fixed size or number, an MLP, a head; factors by place."""

    def __init__(self, width: int, heads: int | None = None, /, **factors: Any) -> None:
        super().__init__()
        self.heads = heads or width // 8
        self.factors = {place: factor(width) for place, factor in factors.items()}
        self.embed, self.norm = nn.Embedding(VOCAB, width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.head = nn.Linear(width, VOCAB, bias=False)

    def by(self, x: Tensor, place: str) -> Tensor:
        return x * self.factors[place] if place in self.factors else x

    def forward(self, tokens: Tensor) -> Tensor:
        B, S = tokens.shape
        x = self.by(self.embed(tokens), "embed")
        qkv = self.qkv(self.norm(x)).view(B, S, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        scale = self.factors.get("scale", q.shape[-1] ** -0.5)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
        x = x + self.by(self.out(mixed.transpose(1, 2).flatten(2)), "out")
        x = x + self.down(self.by(F.gelu(self.up(self.norm(x))), "inner"))
        x = self.by(x, "stream")
        logits: Tensor = self.by(self.head(self.by(self.norm(x), "normed")), "logits")
        return logits


def watched(build: Callable[[int], nn.Module]) -> tuple[Watch, Comparison]:
    watch = Watch.of(build(16), build(32), Example.of_tokens(8, VOCAB))
    return watch, watch.compared(2)
