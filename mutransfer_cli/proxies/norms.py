"""RMSNorm and LayerNorm over the last axis, written out: their fused backward has no batching rule.

Shapes: any leading axes, then the size of the norm.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mutransfer_cli.files.transformer import Gains, NormName

NORM_EPS = 1e-6


def normalised(x: Tensor, norm: NormName) -> Tensor:
    """x / rms(x), for LayerNorm of x less its mean."""
    if norm == "layer":
        x = x - x.mean(-1, keepdim=True)
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + NORM_EPS)


class Norm(nn.Module):
    """
    Args:
        gains: none, one a feature, or one in all; they are 1 at init.
    """

    gain: nn.Parameter | None

    def __init__(self, norm: NormName, gains: Gains, size: int) -> None:
        super().__init__()
        self.norm: NormName = norm
        count = {"none": 0, "vector": size, "scalar": 1}[gains]
        self.gain = nn.Parameter(torch.ones(count)) if count else None

    def forward(self, x: Tensor) -> Tensor:
        """In the type of x; its sums at least in float32."""
        exact = normalised(x.to(torch.promote_types(x.dtype, torch.float32)), self.norm)
        return (exact if self.gain is None else exact * self.gain).to(x.dtype)
