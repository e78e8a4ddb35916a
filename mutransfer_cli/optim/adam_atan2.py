"""Adam-atan2 (Everett et al. 2024, arXiv 2407.05872): Adam without epsilon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mutransfer_cli.optim.adamw import moment_slots, moments_
from mutransfer_cli.optim.stack import Member, ParamGroup
from mutransfer_cli.rules.choices import Role


@dataclass(frozen=True)
class AdamAtan2:
    """w -= lr * a * atan2(m_hat, b * sqrt(v_hat)): the same for any scale of the gradient.

    With b = 1, a = 1.27 (4 / pi) it equals Adam's step where m_hat = sqrt(v_hat), and no step is
    beyond 2 lr. In float32 squares of gradients below 1e-19 are lost.
    """

    betas: tuple[float, float]
    a: float
    b: float

    def slots(self, role: Role, param: Tensor) -> dict[str, Tensor]:
        return moment_slots(param)

    def directions_(
        self, group: ParamGroup, members: Sequence[Member], step: Tensor
    ) -> list[Tensor]:
        directions = []
        for member in members:
            first, second = moments_(member, step, self.betas)
            directions.append(self.a * torch.atan2(first, self.b * second.sqrt_()))
        return directions
