"""Recipes, and models to apply them to."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from mutransfer_cli.recipe.loaded import LoadedRecipe, Patterns, load_recipe
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.spec.yaml_io import dump

WIDTH, VOCAB = 64, 11
NAMES: Patterns = {
    "embedding": "wte.weight",
    "hidden": [r"layers\.\d+\.weight"],
    "readout": "head.weight",
}


def loaded(
    recipe: Recipe,
    patterns: Patterns | None = None,
    edit: Callable[[dict[str, Any]], object] = lambda document: None,
) -> LoadedRecipe:
    """Write a recipe, edit it by hand, and load it."""
    document = yaml.safe_load(dump(recipe))
    edit(document)
    return load_recipe(io.StringIO(yaml.safe_dump(document)), patterns=patterns)


def with_vectors(document: dict[str, Any]) -> None:
    """Add vectors to the recipe's roles, as embeddings without a multiplier."""
    vector = {**document["roles"]["embedding"], "parameters": []}
    document["roles"]["vector"] = vector | {
        "lr": document["base_lr"],
        "multiplier": {"value": 1, "status": "derived", "source": "none"},
    }


class Net(nn.Module):
    """A model with names that no proxy has, with optional gains and a buffer."""

    def __init__(self, depth: int = 2, gains: bool = False) -> None:
        super().__init__()
        self.wte = nn.Embedding(VOCAB, WIDTH)
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(depth))
        self.norm = nn.RMSNorm(WIDTH, elementwise_affine=gains)
        self.head = nn.Linear(WIDTH, VOCAB, bias=False)
        self.register_buffer("positions", torch.arange(4))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.wte(tokens)
        for layer in self.layers:
            x = x + torch.tanh(layer(x))
        logits: Tensor = self.head(self.norm(x))
        return logits


class Wrapper(nn.Module):
    """A wrapper that holds its model as DistributedDataParallel does."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


def compiled(model: nn.Module) -> nn.Module:
    """Wrap a model in torch.compile, which compiles nothing before the first call."""
    wrapped = torch.compile(model, backend="eager")
    assert isinstance(wrapped, nn.Module)
    return wrapped
