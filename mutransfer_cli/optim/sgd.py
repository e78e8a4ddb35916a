"""SGD with heavy-ball momentum, as torch.optim.SGD; its weight decay is decoupled.

m = momentum * m + g; w -= lr * m.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from mutransfer_cli.optim.section import BelowOne, Member, OptimizerSection, ParamGroup
from mutransfer_cli.rules.choices import Role

if TYPE_CHECKING:
    from torch import Tensor


class SGDSpec(OptimizerSection):
    """SGD with momentum."""

    name: Literal["sgd"]
    """Which optimizer: sgd."""
    momentum: BelowOne = 0.9
    """Decay of the momentum per step."""

    def slots(self, role: Role, param: Tensor) -> dict[str, Tensor]:
        return {"momentum": param.new_zeros(param.shape)}

    def directions_(
        self, group: ParamGroup, members: Sequence[Member], step: Tensor
    ) -> list[Tensor]:
        return [m.slots["momentum"].mul_(self.momentum).add_(m.grad) for m in members]
