"""Adam-atan2 (Everett et al. 2024, arXiv 2407.05872): Adam without epsilon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mutransfer_cli.optim.adamw import moments_
from mutransfer_cli.optim.stack import OptimizerState, ParamGroup, Stack, decay_, over, zeros


@dataclass(frozen=True)
class AdamAtan2:
    """w -= lr * a * atan2(m_hat, b * sqrt(v_hat)): the same for any scale of the gradient.

    With b = 1, a = 1.27 (4 / pi) it equals Adam's step where m_hat = sqrt(v_hat), and no step is
    beyond 2 lr. In float32 squares of gradients below 1e-19 are lost.
    """

    betas: tuple[float, float]
    a: float
    b: float

    def slots(self, params: Mapping[str, Tensor], groups: Sequence[ParamGroup]) -> dict[str, Stack]:
        return {"exp_avg": zeros(params, groups), "exp_avg_sq": zeros(params, groups)}

    def update_(
        self,
        params: Mapping[str, Tensor],
        grads: Mapping[str, Tensor],
        state: OptimizerState,
        groups: Sequence[ParamGroup],
        schedule: Tensor,
    ) -> None:
        for group in groups:
            lr = group.lr * schedule
            for name in group.names:
                param = params[name]
                first, second = moments_(name, grads[name], state, self.betas)
                decay_(param, lr, group)
                angle = torch.atan2(first, second.sqrt_().mul_(self.b))
                param.sub_(over(self.a * lr, param) * angle)
