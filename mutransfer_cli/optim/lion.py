"""Lion (Chen et al. 2023, arXiv 2302.06675, Algorithm 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mutransfer_cli.optim.stack import Member, ParamGroup
from mutransfer_cli.rules.choices import Role


@dataclass(frozen=True)
class Lion:
    """w -= lr * sign(b1 m + (1 - b1) g); then m = b2 m + (1 - b2) g."""

    betas: tuple[float, float]

    def slots(self, role: Role, param: Tensor) -> dict[str, Tensor]:
        return {"exp_avg": torch.zeros_like(param)}

    def directions_(
        self, group: ParamGroup, members: Sequence[Member], step: Tensor
    ) -> list[Tensor]:
        directions = []
        for member in members:
            momentum = member.slots["exp_avg"]
            directions.append(momentum.lerp(member.grad, 1 - self.betas[0]).sign_())
            momentum.lerp_(member.grad, 1 - self.betas[1])
        return directions
