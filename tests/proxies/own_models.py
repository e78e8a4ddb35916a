"""Models as users write them, each made by a function of width."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TokenMlp(nn.Module):
    def __init__(self, width: int, vocab: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab, width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.drop = nn.Dropout(0.5)
        self.down = nn.Linear(4 * width, width)
        self.head = nn.Linear(width, vocab)
        self.temperature = nn.Parameter(torch.ones(()))
        nn.init.zeros_(self.up.bias)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.head.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        x = x + self.down(self.drop(F.gelu(self.up(self.norm(x)))))
        logits: Tensor = self.head(x) * self.temperature
        return logits


def token_mlp(width: int, vocab: int) -> nn.Module:
    return TokenMlp(width, vocab)


class TwoLayers(nn.Module):
    """A network linear in both matrices: logits = W2 W1 x."""

    def __init__(self, width: int, vocab: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab, width)
        self.head = nn.Linear(width, vocab, bias=False)
        nn.init.normal_(self.head.weight, std=width**-0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.embed(tokens))
        return logits


def two_layers(width: int, vocab: int) -> nn.Module:
    return TwoLayers(width, vocab)


class RoundedMlp(nn.Module):
    """An MLP whose inner size is rounded to a multiple of 32, as is common."""

    def __init__(self, width: int, vocab: int) -> None:
        super().__init__()
        inner = 32 * (width // 12)
        self.embed = nn.Embedding(vocab, width)
        self.gate = nn.Linear(width, inner, bias=False)
        self.up = nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)
        self.head = nn.Linear(width, vocab, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        logits: Tensor = self.head(x + self.down(F.silu(self.gate(x)) * self.up(x)))
        return logits


def rounded_mlp(width: int, vocab: int) -> nn.Module:
    return RoundedMlp(width, vocab)


class WithLoss(TokenMlp):
    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:  # type: ignore[override]
        return F.cross_entropy(super().forward(tokens).flatten(0, 1), targets.flatten())


def with_loss(width: int, vocab: int) -> nn.Module:
    return WithLoss(width, vocab)


def several_outputs(width: int, vocab: int) -> nn.Module:
    class Several(TokenMlp):
        def forward(self, tokens: Tensor) -> Any:
            return super().forward(tokens), None

    return Several(width, vocab)


class CausalConvNet(nn.Module):
    """Convolutions over tokens: one depthwise, one grouped, one transposed."""

    def __init__(self, width: int, vocab: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab, width)
        self.by_channel = nn.Conv1d(width, width, 3, groups=width)
        self.mix = nn.Conv1d(width, 2 * width, 1, groups=2)
        self.norm = nn.GroupNorm(1, 2 * width)
        self.back = nn.ConvTranspose1d(2 * width, width, 1, bias=False)
        self.head = nn.Conv1d(width, vocab, 1, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens).mT
        x = x + self.by_channel(F.pad(x, (2, 0)))
        x = x + self.back(F.gelu(self.norm(self.mix(x))))
        logits: Tensor = self.head(x)
        return logits.mT


def conv_net(width: int, vocab: int) -> nn.Module:
    return CausalConvNet(width, vocab)


class ImageNet(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3)
        self.body = nn.Conv2d(width, 2 * width, 3)
        self.head = nn.Linear(2 * width, 10)

    def forward(self, images: Tensor) -> Tensor:
        x: Tensor = self.body(F.relu(self.stem(images))).mean((2, 3))
        return self.head(x)  # type: ignore[no-any-return]


def image_net(width: int) -> nn.Module:
    return ImageNet(width)


HEAD_SIZE, KV_HEADS, EXPERTS = 8, 1, 4


class Attention(nn.Module):
    """Attention with a fixed number of kv heads and norms of queries and keys."""

    mask: Tensor

    def __init__(self, width: int, context: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * KV_HEADS * HEAD_SIZE, bias=False)
        self.query_gain = nn.Parameter(torch.ones(HEAD_SIZE))
        self.out = nn.Linear(width, width, bias=False)
        self.register_buffer("mask", torch.ones(context, context).tril().bool())

    def forward(self, x: Tensor) -> Tensor:
        B, S, D = x.shape
        q = self.query(x).view(B, S, -1, HEAD_SIZE) * self.query_gain
        k, v = self.key_value(x).view(B, S, 2, HEAD_SIZE).unbind(2)
        scores = torch.einsum("bshd,btd->bhst", q, k) / HEAD_SIZE
        mixed = scores.masked_fill(~self.mask[:S, :S], -1e9).softmax(-1)
        out: Tensor = self.out(torch.einsum("bhst,btd->bshd", mixed, v).reshape(B, S, D))
        return out


class Experts(nn.Module):
    """A router and two stacks of matrices."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.router = nn.Linear(width, EXPERTS, bias=False)
        self.up = nn.Parameter(torch.randn(EXPERTS, width, 2 * width) * width**-0.5)
        self.down = nn.Parameter(torch.randn(EXPERTS, 2 * width, width) * (2 * width) ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.router(x).softmax(-1)
        inner = F.gelu(torch.einsum("bsd,edf->bsef", x, self.up))
        return torch.einsum("bsef,efd,bse->bsd", inner, self.down, weights)


class TiedMoE(nn.Module):
    def __init__(self, width: int, vocab: int, context: int, base: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocab, width)
        self.position = nn.Parameter(0.02 * torch.randn(context, width))
        self.attention = nn.ModuleList(Attention(width, context) for _ in range(2))
        self.experts = nn.ModuleList(Experts(width) for _ in range(2))
        self.norm = nn.LayerNorm(width, bias=False)
        self.unused = nn.Parameter(torch.full((width,), 2.0), requires_grad=False)
        self.head = nn.Linear(width, vocab, bias=False)
        self.head.weight = self.token.weight
        self.output_multiplier = base / width

    def forward(self, tokens: Tensor) -> Any:
        x = self.token(tokens) + self.position[: tokens.shape[1]]
        for attention, experts in zip(self.attention, self.experts, strict=True):
            x = x + attention(self.norm(x))
            x = x + experts(self.norm(x) * self.unused)
        return Output(self.head(self.norm(x)) * self.output_multiplier)


class Output:
    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


def tied_moe(width: int, vocab: int, context: int, base: int = 16) -> nn.Module:
    return TiedMoE(width, vocab, context, base)


def untied_moe(width: int, vocab: int, context: int, base: int = 16) -> nn.Module:
    model = TiedMoE(width, vocab, context, base)
    model.head.weight = nn.Parameter(model.head.weight.detach().clone())
    return model


# models that cannot be proxies


def without_width(size: int) -> nn.Module:
    return nn.Linear(size, size)


def no_module(width: int) -> str:
    return "a model"


def other_names(width: int) -> nn.Module:
    return nn.ModuleDict({f"of_{width}": nn.Linear(width, 8)})


def stays(width: int) -> nn.Module:
    return nn.Sequential(nn.Embedding(256, 8), nn.Linear(8, 256))


def last_token_only(width: int, vocab: int) -> nn.Module:
    class Last(TokenMlp):
        def forward(self, tokens: Tensor) -> Tensor:
            return super().forward(tokens)[:, -1:]

    return Last(width, vocab)


def small_vocab(width: int) -> nn.Module:
    return TokenMlp(width, 100)


def padded_vocab(width: int, vocab: int) -> nn.Module:
    return TokenMlp(width, vocab + 44)


def text_output(width: int, vocab: int) -> nn.Module:
    class Text(TokenMlp):
        def forward(self, tokens: Tensor) -> Any:
            return "text", super().forward(tokens)

    return Text(width, vocab)


def raises(width: int) -> nn.Module:
    raise KeyError("no such size")


def logits_by_hand(width: int, vocab: int) -> nn.Module:
    class ByHand(TokenMlp):
        def forward(self, tokens: Tensor) -> Tensor:
            logits: Tensor = self.down(self.up(self.embed(tokens))) @ self.embed.weight.T
            return logits

    return ByHand(width, vocab)


def without_sizes(width: int, vocab: int) -> nn.Module:
    return nn.Sequential(nn.Embedding(vocab, width), nn.LazyLinear(width), nn.Linear(width, vocab))


NOT_A_FUNCTION = 3


def needs_values(width: int, vocab: int) -> nn.Module:
    model = TokenMlp(width, vocab)
    model.scale = float(torch.linspace(0, 1, 3)[1])  # type: ignore[assignment]
    return model


def shared_layers(width: int, vocab: int) -> nn.Module:
    layer = nn.Linear(width, width)
    return nn.Sequential(nn.Embedding(vocab, width), layer, layer, nn.Linear(width, vocab))


def sequential(width: int, vocab: int) -> nn.Module:
    """A model whose names are numbers: 0.weight is the embedding, 3.weight the readout."""
    hidden = [nn.Linear(width, width, bias=False) for _ in range(2)]
    readout = nn.Linear(width, vocab, bias=False)
    return nn.Sequential(nn.Embedding(vocab, width), *hidden, readout)
