"""A small diffusion transformer: it learns to tell the noise in images of digits.

The forward asks for a generator: time steps and noise are drawn from it, the same for all rates.
"""

import torch
import torch.nn.functional as F
from own_models.blocks import Block
from own_models.images import SIZE
from torch import Tensor, nn

PATCH, FREQUENCIES = 4, 8


class DiT(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.patches = nn.Linear(PATCH**2, width)
        self.position = nn.Parameter(0.2 * torch.randn((SIZE // PATCH) ** 2, width))
        self.time_in, self.time_out = nn.Linear(2 * FREQUENCIES, width), nn.Linear(width, width)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, PATCH**2)

    def velocity(self, image: Tensor, time: Tensor) -> Tensor:
        """The noise minus the image, given their mixture at a time in [0, 1]."""
        x = F.unfold(image, PATCH, stride=PATCH).transpose(1, 2)
        angle = time.view(-1, 1) * torch.pi * 2.0 ** torch.arange(FREQUENCIES, device=time.device)
        code = self.time_out(F.silu(self.time_in(torch.cat([angle.sin(), angle.cos()], 1))))
        x = self.blocks(self.patches(x) + self.position + code.unsqueeze(1))
        out = self.head(self.norm(x)).transpose(1, 2)
        return F.fold(out, SIZE, PATCH, stride=PATCH)

    def forward(self, image: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(image.shape, generator=generator, device=image.device)
        time = torch.rand(len(image), 1, 1, 1, generator=generator, device=image.device)
        mixed = (1 - time) * image + time * noise
        return F.mse_loss(self.velocity(mixed, time), noise - image)


def model(width: int, depth: int = 2) -> nn.Module:
    return DiT(width, depth)
