"""Adam-atan2 (Everett et al. 2024, arXiv 2407.05872): Adam without epsilon.

w -= lr * a * atan2(m_hat, b * sqrt(v_hat)), which is the same for any scale of the gradient. With
b = 1 and a = 1.27 (4 / pi) it equals Adam's step where m_hat = sqrt(v_hat), and no step is beyond
2 lr. In float32 squares of gradients below 1e-19 are lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from mutransfer_cli.optim.adamw import moment_slots, moments_
from mutransfer_cli.optim.section import Betas, Member, OptimizerSection, ParamGroup
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.strict import Positive

if TYPE_CHECKING:
    from torch import Tensor


class AdamAtan2Spec(OptimizerSection):
    """Adam-atan2: lr * a * atan2(m, b * sqrt(v)), without eps."""

    name: Literal["adam_atan2"]
    """Which optimizer: adam_atan2."""
    betas: Betas = (0.9, 0.95)
    """Decay per step of the means m of the gradient and v of its square."""
    a: Positive = 1.27
    """Factor on the arc tangent."""
    b: Positive = 1.0
    """Factor on sqrt(v)."""

    def slots(self, role: Role, param: Tensor) -> dict[str, Tensor]:
        return moment_slots(param)

    def directions_(
        self, group: ParamGroup, members: Sequence[Member], step: Tensor
    ) -> list[Tensor]:
        return [
            self.a * first.atan2(self.b * second.sqrt_())
            for first, second in moments_(members, step, self.betas)
        ]
