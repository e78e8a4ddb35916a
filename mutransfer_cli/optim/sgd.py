"""SGD with heavy-ball momentum, as torch.optim.SGD; its weight decay is decoupled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from mutransfer_cli.optim.stack import OptimizerState, ParamGroup, Stack, decay_, over, zeros


@dataclass(frozen=True)
class SGD:
    """m = momentum * m + g; w -= lr * m."""

    momentum: float

    def slots(self, params: Mapping[str, Tensor], groups: Sequence[ParamGroup]) -> dict[str, Stack]:
        return {"momentum": zeros(params, groups)}

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
                param, momentum = params[name], state.slots["momentum"][name]
                momentum.mul_(self.momentum).add_(grads[name])
                decay_(param, lr, group)
                param.sub_(over(lr, param) * momentum)
