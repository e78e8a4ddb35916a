"""Lion (Chen et al. 2023, arXiv 2302.06675, Algorithm 2).

w -= lr * sign(b1 m + (1 - b1) g); then m = b2 m + (1 - b2) g.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from mutransfer_cli.optim.section import Betas, Member, OptimizerSection, ParamGroup
from mutransfer_cli.rules.choices import Role

if TYPE_CHECKING:
    from torch import Tensor


class LionSpec(OptimizerSection):
    """Lion; betas of its paper."""

    name: Literal["lion"]
    """Which optimizer: lion."""
    betas: Betas = (0.9, 0.99)
    """Weight of the momentum in the update, and decay of the momentum per step."""

    def slots(self, role: Role, param: Tensor) -> dict[str, Tensor]:
        return {"exp_avg": param.new_zeros(param.shape)}

    def directions_(
        self, group: ParamGroup, members: Sequence[Member], step: Tensor
    ) -> list[Tensor]:
        directions = []
        for member in members:
            momentum = member.slots["exp_avg"]
            directions.append(momentum.lerp(member.grad, 1 - self.betas[0]).sign_())
            momentum.lerp_(member.grad, 1 - self.betas[1])
        return directions
