"""AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101, Algorithm 2); without decay it is Adam."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from mutransfer_cli.optim.stack import OptimizerState, ParamGroup, Stack, decay_, over, zeros
from mutransfer_cli.torch_private import fused_adamw_


@dataclass(frozen=True)
class AdamW:
    """m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; w -= lr * m_hat / (sqrt(v_hat) + eps)."""

    betas: tuple[float, float]

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
                denominator = second.sqrt_().add_(over(group.eps, param))
                param.sub_(over(lr, param) * first / denominator)


def moments_(
    name: str, grad: Tensor, state: OptimizerState, betas: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Takes a gradient into both moments; returns them corrected for their start at zero."""
    first, second = state.slots["exp_avg"][name], state.slots["exp_avg_sq"][name]
    first.lerp_(grad, 1 - betas[0])
    second.mul_(betas[1]).addcmul_(grad, grad, value=1 - betas[1])
    # in float32 the correction of the first steps would lose a digit
    steps = state.step.double()
    return first / over(1 - betas[0] ** steps, grad), second / over(1 - betas[1] ** steps, grad)


@dataclass(frozen=True)
class FusedAdamW(AdamW):
    """The same update trial by trial through torch's fused CPU kernel: one pass over memory."""

    def update_(
        self,
        params: Mapping[str, Tensor],
        grads: Mapping[str, Tensor],
        state: OptimizerState,
        groups: Sequence[ParamGroup],
        schedule: Tensor,
    ) -> None:
        for group in groups:
            for trial, (peak, factor, weight_decay, eps) in enumerate(
                zip(
                    group.lr.tolist(),
                    schedule.tolist(),
                    group.weight_decay.tolist(),
                    group.eps.tolist(),
                    strict=True,
                )
            ):
                fused_adamw_(
                    [params[name][trial] for name in group.names],
                    [grads[name][trial].contiguous() for name in group.names],
                    [state.slots["exp_avg"][name][trial] for name in group.names],
                    [state.slots["exp_avg_sq"][name][trial] for name in group.names],
                    [state.step[trial]] * len(group.names),
                    lr=peak * factor,
                    betas=self.betas,
                    weight_decay=weight_decay,
                    eps=eps,
                )
