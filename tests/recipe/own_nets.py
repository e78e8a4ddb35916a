"""Nets as users write them, one correct and the others with one fault each; their optimizers."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutransfer_cli.recipe.loaded import load_recipe

BASE, HEAD_SIZE = 16, 8


class Net(nn.Module):
    """Attention of fixed head size and an MLP, with torch's default init.

    Args:
        scale: factor on q.k.
        multiplier: exponent of width / BASE of the factor on the output.
    """

    def __init__(
        self, width: int, vocab: int, scale: float = 1 / HEAD_SIZE, multiplier: float = 0
    ) -> None:
        super().__init__()
        self.wte = nn.Embedding(vocab, width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.layers = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(2))
        self.norm = nn.RMSNorm(width, elementwise_affine=False)
        self.head = nn.Linear(width, vocab, bias=False)
        self.scale, self.factor = scale, (width / BASE) ** multiplier

    def features(self, tokens: Tensor) -> Tensor:
        x = self.wte(tokens)
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, -1, HEAD_SIZE)).movedim(-3, 0)
        x = x + self.attend(q, k, v).reshape(x.shape)
        for layer in self.layers:
            x = x + torch.tanh(layer(self.norm(x)))
        normed: Tensor = self.norm(x)
        return normed

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend causally; q, k, v and the result are [batch, context, heads, head size]."""
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=self.scale)
        return mixed.transpose(1, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(tokens)) * self.factor
        return logits


def net(width: int, vocab: int) -> nn.Module:
    return Net(width, vocab)


def multiplied(width: int, vocab: int) -> nn.Module:
    return Net(width, vocab, multiplier=-0.5)


class PreMultiplied(Net):
    """A net that applies the factor before the readout."""

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(tokens) * self.factor)
        return logits


def multiplied_before(width: int, vocab: int) -> nn.Module:
    return PreMultiplied(width, vocab, multiplier=-0.5)


class Capped(Net):
    def forward(self, tokens: Tensor) -> Tensor:
        return torch.tanh(super().forward(tokens))


def capped(width: int, vocab: int) -> nn.Module:
    return Capped(width, vocab)


def other_attention(width: int, vocab: int) -> nn.Module:
    return Net(width, vocab, scale=HEAD_SIZE**-0.5)


class ByHand(Net):
    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = torch.einsum("bshd,bthd->bhst", q, k) * self.scale
        return torch.einsum("bhst,bthd->bshd", scores.softmax(-1), v)


def attention_by_hand(width: int, vocab: int) -> nn.Module:
    return ByHand(width, vocab)


def one_constant_init(width: int, vocab: int) -> nn.Module:
    model = Net(width, vocab)
    nn.init.normal_(model.layers[1].weight, std=0.05)  # type: ignore[arg-type]
    return model


def mup_init(width: int, vocab: int) -> nn.Module:
    """A net whose hidden matrices have std 1/width in place of 1/sqrt(width)."""
    model = Net(width, vocab)
    for weight in (model.qkv.weight, *(layer.weight for layer in model.layers)):
        nn.init.normal_(weight, std=1 / width)  # type: ignore[arg-type]
    return model


def constant_init(width: int, vocab: int) -> nn.Module:
    """A net whose weights all have std 0.02, as in Hugging Face models."""
    model = Net(width, vocab)
    for weight in model.parameters():
        nn.init.normal_(weight, std=0.02)
    return model


def drawn(width: int, vocab: int, factor: float) -> nn.Module:
    """A net that starts as a folded recipe of the built-in proxies under muP, times a factor."""
    model = Net(width, vocab)
    for name, weight in model.named_parameters():
        std = 1.0 if name == "wte.weight" else width**-0.5
        std *= (width / BASE) ** -0.5 if name == "head.weight" else 1.0
        nn.init.normal_(weight, std=factor * std)
    return model


def as_the_recipe(width: int, vocab: int) -> nn.Module:
    return drawn(width, vocab, 1.0)


def twice_as_wide(width: int, vocab: int) -> nn.Module:
    return drawn(width, vocab, 2.0)


def one_more(width: int, vocab: int) -> nn.Module:
    model = Net(width, vocab)
    model.head = nn.Linear(width, vocab)
    return model


def one_less(width: int, vocab: int) -> nn.Module:
    model = Net(width, vocab)
    model.qkv = nn.Linear(width, 3 * width, bias=False).requires_grad_(False)
    del model.layers[1], model.layers[0]
    return model


def tied(width: int, vocab: int) -> nn.Module:
    model = Net(width, vocab)
    model.head.weight = model.wte.weight
    return model


def narrow(width: int, vocab: int) -> nn.Module:
    """A net with one matrix whose fan-in does not scale with width."""
    model = Net(width, vocab)
    half = 4 * round(width**0.5)
    model.layers[1] = nn.Sequential(
        nn.Linear(width, half, bias=False), nn.Linear(half, width, bias=False)
    )
    return model


# functions for `--optimizer`


def groups(model: nn.Module) -> list[dict[str, Any]]:
    return load_recipe(os.environ["RECIPE"]).param_groups(model, multipliers="in_model")


def optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups(model))


def one_left_out(model: nn.Module) -> torch.optim.Optimizer:
    found = groups(model)
    for group in found:
        if "wte.weight" in group["param_names"]:
            group["params"].pop(group["param_names"].index("wte.weight"))
            group["param_names"].remove("wte.weight")
    return torch.optim.AdamW([group for group in found if group["params"]])


def changed(model: nn.Module, role: str, key: str, factor: float) -> torch.optim.Optimizer:
    found = groups(model)
    for group in found:
        if role in group["name"]:
            group[key] *= factor
    return torch.optim.AdamW(found)


def hidden_unscaled(model: nn.Module) -> torch.optim.Optimizer:
    return changed(model, "hidden", "lr", 4)


def embedding_scaled(model: nn.Module) -> torch.optim.Optimizer:
    return changed(model, "embedding", "lr", 0.25)


def decay_independent(model: nn.Module) -> torch.optim.Optimizer:
    lr = next(group["lr"] for group in groups(model) if "hidden" in group["name"])
    return changed(model, "hidden", "weight_decay", lr)


def twice(model: nn.Module) -> torch.optim.Optimizer:
    return changed(model, "hidden", "lr", 0.25)


class Own(torch.optim.AdamW):
    """A class whose step nobody knows."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step(closure)


def own_class(model: nn.Module) -> torch.optim.Optimizer:
    return Own(groups(model))


def own_class_named(model: nn.Module) -> dict[str, torch.optim.Optimizer]:
    return {"adamw": Own(groups(model))}


def fails(model: nn.Module) -> torch.optim.Optimizer:
    raise RuntimeError("no GPU here")


def nothing(model: nn.Module) -> None:
    return None
