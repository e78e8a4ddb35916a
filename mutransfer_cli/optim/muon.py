"""Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon): orthogonalised hidden updates.

w -= lr * adjustment * orthogonalised(Nesterov momentum); AdamW updates all other parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from mutransfer_cli.optim.adamw import adamw_directions_, moment_slots
from mutransfer_cli.optim.section import BelowOne, Betas, Member, OptimizerSection, ParamGroup
from mutransfer_cli.rules.choices import LrAdjustment, Role
from mutransfer_cli.strict import Positive

if TYPE_CHECKING:
    from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the published quintic iteration
ITERATIONS = 5
EPS = 1e-7


class MuonSpec(OptimizerSection):
    """Muon for hidden matrices; betas and eps are those of AdamW for all others."""

    name: Literal["muon"]
    """Which optimizer: muon."""
    momentum: BelowOne = 0.95
    """Decay of the momentum per step."""
    lr_adjustment: LrAdjustment = "original"
    """Factor on the rate of a matrix of A x B: original sqrt(max(1, A / B)), match_rms_adamw 0.2
    sqrt(max(A, B)), under which updates are as large as AdamW's."""
    betas: Betas = (0.9, 0.95)
    """Decay per step of the means m of the gradient and v of its square."""
    eps: Positive = 1e-8
    """Added to sqrt(v), in units of the gradient."""

    def slots(self, role: Role, param: Tensor) -> dict[str, Tensor]:
        if role != "hidden":
            return moment_slots(param)
        return {"momentum": param.new_zeros(param.shape)}

    def directions_(
        self, group: ParamGroup, members: Sequence[Member], step: Tensor
    ) -> list[Tensor]:
        """Layers of one shape are orthogonalised together."""
        import torch

        if group.role != "hidden":
            return adamw_directions_(self.betas, group, members, step)
        nesterov = [self.nesterov_(member) for member in members]
        together: dict[torch.Size, list[int]] = {}
        for index, update in enumerate(nesterov):
            together.setdefault(update.shape, []).append(index)
        for shape, indices in together.items():
            layers = orthogonalised(torch.stack([nesterov[index] for index in indices]))
            for index, layer in zip(indices, layers, strict=True):
                nesterov[index] = self.adjustment(shape) * layer
        return nesterov

    def nesterov_(self, member: Member) -> Tensor:
        momentum = member.slots["momentum"].lerp_(member.grad, 1 - self.momentum)
        return member.grad.lerp(momentum, self.momentum)

    def adjustment(self, shape: Sequence[int]) -> float:
        rows, columns = shape[-2:]
        if self.lr_adjustment == "original":
            return math.sqrt(max(1, rows / columns))
        return 0.2 * math.sqrt(max(rows, columns))


def orthogonalised(matrices: Tensor) -> Tensor:
    """About U V^T of each matrix [..., A, B] = U S V^T, by Newton-Schulz in the matrices' type.

    The iteration stops at singular values between about 0.7 and 1.2.
    """
    from torch.linalg import matrix_norm

    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / matrix_norm(x, keepdim=True).clamp(min=EPS)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.mT if tall else x
    return result
