"""Lion (Chen et al. 2023, arXiv 2302.06675, Algorithm 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from mutransfer_cli.optim.stack import OptimizerState, ParamGroup, Stack, decay_, over, zeros


@dataclass(frozen=True)
class Lion:
    """w -= lr * sign(b1 m + (1 - b1) g); then m = b2 m + (1 - b2) g."""

    betas: tuple[float, float]

    def slots(self, params: Mapping[str, Tensor], groups: Sequence[ParamGroup]) -> dict[str, Stack]:
        return {"exp_avg": zeros(params, groups)}

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
                param, grad, momentum = params[name], grads[name], state.slots["exp_avg"][name]
                decay_(param, lr, group)
                param.sub_(over(lr, param) * momentum.lerp(grad, 1 - self.betas[0]).sign_())
                momentum.lerp_(grad, 1 - self.betas[1])
