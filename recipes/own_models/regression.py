"""A regression net with normed residual layers: inputs and targets are columns of a table."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INPUTS = 16


def table(rows: int = 8192, noise: float = 0.1) -> tuple[Tensor, Tensor]:
    """Inputs [rows, 16], and a sum of products and sines of them with noise, [rows, 1]."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, INPUTS, generator=generator)
    y = (x[:, :4] * x[:, 4:8]).sum(1) / 2 + torch.sin(2 * x[:, 8:12]).sum(1) / 2
    return x, (y + noise * torch.randn(rows, generator=generator)).unsqueeze(1)


class Net(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.first = nn.Linear(INPUTS, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, 1)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h = self.first(x)
        for layer in self.layers:
            h = h + layer(F.relu(F.layer_norm(h, h.shape[-1:])))
        return F.mse_loss(self.last(self.norm(h)), y)


def model(width: int, depth: int = 3) -> nn.Module:
    return Net(width, depth)
