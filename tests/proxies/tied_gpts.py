"""Small decoders whose embedding is their readout, as users write them, by function of width."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD = 8


class Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.c_attn = nn.Linear(width, 3 * width, bias=False)
        self.c_proj = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        B, S, D = x.shape
        q, k, v = (
            part.view(B, S, D // HEAD, HEAD).transpose(1, 2) for part in self.c_attn(x).split(D, 2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        found: Tensor = self.c_proj(y.transpose(1, 2).reshape(B, S, D))
        return found


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width)
        self.ln_2 = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width, bias=False)
        self.down = nn.Linear(2 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        down: Tensor = self.down(F.gelu(self.up(self.ln_2(x))))
        return x + down


class Gpt(nn.Module):
    """Two names for one weight, transformer.wte.weight and lm_head.weight, as in nanoGPT."""

    def __init__(self, width: int, vocab: int, context: int = 16) -> None:
        super().__init__()
        self.transformer: Any = nn.ModuleDict(
            {
                "wte": nn.Embedding(vocab, width),
                "wpe": nn.Embedding(context, width),
                "h": nn.ModuleList([Block(width)]),
                "ln_f": nn.LayerNorm(width),
            }
        )
        self.lm_head = nn.Linear(width, vocab, bias=False)
        self.lm_head.weight = self.transformer.get_parameter("wte.weight")
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.1)

    def features(self, tokens: Tensor) -> Tensor:
        where = torch.arange(tokens.shape[-1], device=tokens.device)
        x: Tensor = self.transformer["wte"](tokens) + self.transformer["wpe"](where)
        for block in self.transformer["h"]:
            x = block(x)
        found: Tensor = self.transformer["ln_f"](x)
        return found

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.lm_head(self.features(tokens))
        return logits


class OneName(Gpt):
    """The readout is the embedding's weight, used twice under its one name."""

    def __init__(self, width: int, vocab: int, context: int = 16) -> None:
        super().__init__(width, vocab, context)
        del self.lm_head

    def forward(self, tokens: Tensor) -> Tensor:
        return F.linear(self.features(tokens), self.transformer["wte"].weight)


class LossAlone(OneName):
    """A forward pass that returns the loss and no logits."""

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:  # type: ignore[override]
        logits = super().forward(tokens)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


class Wrapper(nn.Module):
    """A Gpt below an attribute, as many trainers have it."""

    def __init__(self, width: int, vocab: int) -> None:
        super().__init__()
        self.gpt = Gpt(width, vocab)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.gpt(tokens)
        return logits


def gpt(width: int, vocab: int) -> nn.Module:
    return Gpt(width, vocab)


def one_name(width: int, vocab: int) -> nn.Module:
    return OneName(width, vocab)


def loss_alone(width: int, vocab: int) -> nn.Module:
    return LossAlone(width, vocab)


def wrapped(width: int, vocab: int) -> nn.Module:
    return Wrapper(width, vocab)
