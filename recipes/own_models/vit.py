"""A vision transformer that classifies images of digits; its forward returns the loss."""

import torch
import torch.nn.functional as F
from own_models.blocks import Block
from own_models.images import SIZE
from torch import Tensor, nn


class ViT(nn.Module):
    def __init__(self, width: int, depth: int, patch: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, patch, stride=patch)
        self.position = nn.Parameter(0.2 * torch.randn((SIZE // patch) ** 2, width))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 10)

    def forward(self, image: Tensor, label: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2) + self.position
        x = self.norm(self.blocks(x)).mean(1)
        return F.cross_entropy(self.head(x), label)


def model(width: int, depth: int = 2, patch: int = 4) -> nn.Module:
    return ViT(width, depth, patch)
