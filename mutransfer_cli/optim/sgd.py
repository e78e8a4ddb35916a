"""SGD with heavy-ball momentum, as torch.optim.SGD; its weight decay is decoupled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mutransfer_cli.optim.stack import Member, ParamGroup
from mutransfer_cli.rules.choices import Role


@dataclass(frozen=True)
class SGD:
    """m = momentum * m + g; w -= lr * m."""

    momentum: float

    def slots(self, role: Role, param: Tensor) -> dict[str, Tensor]:
        return {"momentum": torch.zeros_like(param)}

    def directions_(
        self, group: ParamGroup, members: Sequence[Member], step: Tensor
    ) -> list[Tensor]:
        return [m.slots["momentum"].mul_(self.momentum).add_(m.grad) for m in members]
