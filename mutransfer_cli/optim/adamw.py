"""AdamW over stacked trials (Loshchilov & Hutter 2019, arXiv 1711.05101, Algorithm 2).

Every parameter is a stack [T, ...] of T trials; every hyperparameter that differs between trials
is a tensor [T]. Weight decay is lr-coupled: w -= lr * weight_decay * w.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mutransfer_cli.torch_private import fused_adamw_

Stack = dict[str, Tensor]


@dataclass(frozen=True)
class ParamGroup:
    """Parameters that share hyperparameters.

    Attributes:
        names: of the parameters.
        lr: peak learning rate per step, [T].
        weight_decay: lr-coupled, [T].
        eps: added to the root of the second moment, [T].
    """

    names: tuple[str, ...]
    lr: Tensor
    weight_decay: Tensor
    eps: Tensor


@dataclass(frozen=True)
class AdamWState:
    """First and second moments, stacked as the parameters, and the steps done, [T]."""

    exp_avg: Stack
    exp_avg_sq: Stack
    step: Tensor

    @classmethod
    def zeros(cls, params: Mapping[str, Tensor]) -> AdamWState:
        first = next(iter(params.values()))
        return cls(
            exp_avg={name: torch.zeros_like(stack) for name, stack in params.items()},
            exp_avg_sq={name: torch.zeros_like(stack) for name, stack in params.items()},
            step=torch.zeros(first.shape[0], device=first.device),
        )


def clip_(grads: Mapping[str, Tensor], max_norm: float, sliced: bool) -> None:
    """Scales each trial's gradient in place to a global norm of at most `max_norm`."""
    norms = slice_norms(grads) if sliced else stack_norms(grads)
    factor = (max_norm / (norms + 1e-6)).clamp(max=1.0)
    for grad in grads.values():
        grad.mul_(over(factor, grad))


def stack_norms(grads: Mapping[str, Tensor]) -> Tensor:
    """Global gradient norm of each trial, [T]."""
    return torch.stack([grad.square().flatten(1).sum(1) for grad in grads.values()]).sum(0).sqrt()


def slice_norms(grads: Mapping[str, Tensor]) -> Tensor:
    """The same, trial by trial: the order of its additions does not depend on T."""
    slices = zip(*(grad.unbind() for grad in grads.values()), strict=True)
    return torch.stack([torch.nn.utils.get_total_norm(trial) for trial in slices])


def adamw_(
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    state: AdamWState,
    groups: Sequence[ParamGroup],
    schedule: Tensor,
    betas: tuple[float, float],
) -> None:
    """One update in place, elementwise over the stack. `schedule` is the factor on lr, [T]."""
    beta1, beta2 = betas
    state.step.add_(1)
    # in float32 the correction of the first steps would lose a digit
    steps = state.step.double()
    correction1, correction2 = 1 - beta1**steps, 1 - beta2**steps
    for group in groups:
        lr = group.lr * schedule
        for name in group.names:
            param, grad = params[name], grads[name]
            first, second = state.exp_avg[name], state.exp_avg_sq[name]
            param.mul_(over(1 - lr * group.weight_decay, param))
            first.lerp_(grad, 1 - beta1)
            second.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
            denominator = (second / over(correction2, param)).sqrt_().add_(over(group.eps, param))
            param.sub_(over(lr / correction1, param) * first / denominator)


def adamw_slices_(
    params: Mapping[str, Tensor],
    grads: Mapping[str, Tensor],
    state: AdamWState,
    groups: Sequence[ParamGroup],
    schedule: Tensor,
    betas: tuple[float, float],
) -> None:
    """The same update trial by trial through torch's fused CPU kernel: one pass over memory."""
    state.step.add_(1)
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
                [state.exp_avg[name][trial] for name in group.names],
                [state.exp_avg_sq[name][trial] for name in group.names],
                [state.step[trial]] * len(group.names),
                lr=peak * factor,
                betas=betas,
                weight_decay=weight_decay,
                eps=eps,
            )


def over(per_trial: Tensor, stack: Tensor) -> Tensor:
    """[T] in the type and shape that broadcast over a stack [T, ...]."""
    return per_trial.to(stack.dtype).view(-1, *[1] * (stack.dim() - 1))
