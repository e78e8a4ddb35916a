"""Many trials of one width trained in one step.

Shapes: T trials, B batch, S context. The gradient is taken outside vmap: trials share nothing, so
the gradient of the summed losses is the stack of their own gradients, and every backward kernel
runs once on the stack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from mutransfer_cli.data.text import stream_generator
from mutransfer_cli.files.spec import TrainSpec
from mutransfer_cli.optim.adamw import AdamWState, ParamGroup, Stack, adamw_, adamw_slices_, clip_
from mutransfer_cli.rules.plan import PlannedParameter
from mutransfer_cli.torch_private import HAS_FUSED_ADAMW, batch_cpu_attention

Plan = tuple[PlannedParameter, ...]


@dataclass(frozen=True)
class TrialState:
    """What training changes: weights (stacked leaves that require grad) and AdamW's state."""

    params: Stack
    optimizer: AdamWState


class Ensemble:
    """The compiled functions of one width; groups of trials pass through it.

    Args:
        model: the proxy at this width; its own values are never used.
        train: clip and precision.
        betas: AdamW's.
        compiled: torch.compile the losses and the update.
    """

    def __init__(
        self,
        model: nn.Module,
        train: TrainSpec,
        betas: tuple[float, float],
        device: torch.device,
        compiled: bool,
    ) -> None:
        self.model = model.to(device)
        self.buffers = dict(self.model.named_buffers())
        self.train, self.betas, self.device = train, betas, device
        self.losses: Callable[[Stack, dict[str, float], Tensor], Tensor] = self._losses
        self.update: Callable[[TrialState, Stack, Sequence[ParamGroup], Tensor], None]
        self.update = self._update
        self.compiled = compiled
        self.sliced = device.type == "cpu" and not compiled and HAS_FUSED_ADAMW
        if device.type == "cpu":
            batch_cpu_attention()
        if compiled:
            # dynamo keeps the graphs of all widths under one code object and gives up at eight
            torch.compiler.reset()
            self.losses = torch.compile(self._losses, dynamic=False)
            self.update = torch.compile(self._update, dynamic=False)

    def start(self, plans: Sequence[Plan], seeds: Sequence[int]) -> TrialState:
        """Initial weights of T trials, drawn from each plan with the trial's own seed."""
        params: Stack = {}
        drawn = {seed: stream_generator(seed, "init") for seed in seeds}
        for index, planned in enumerate(plans[0]):
            noise = {
                seed: torch.randn(planned.shape, generator=generator)
                for seed, generator in drawn.items()
            }
            stack = torch.stack(
                [
                    plan[index].init_std * noise[seed]
                    for plan, seed in zip(plans, seeds, strict=True)
                ]
            )
            params[planned.name] = stack.to(self.device).requires_grad_()
        return TrialState(params, AdamWState.zeros(params))

    def step(
        self,
        state: TrialState,
        groups: Sequence[ParamGroup],
        multipliers: dict[str, float],
        tokens: Tensor,
        schedule: Tensor,
    ) -> Tensor:
        """One training step in place. tokens [T, B, S + 1], schedule [T]; returns losses [T]."""
        losses = self.losses(state.params, multipliers, tokens)
        gradients = torch.autograd.grad(losses.sum(), list(state.params.values()))
        with torch.no_grad():
            self.update(state, dict(zip(state.params, gradients, strict=True)), groups, schedule)
        return losses.detach()

    @torch.no_grad()
    def evaluate(self, state: TrialState, multipliers: dict[str, float], tokens: Tensor) -> Tensor:
        """Losses [T] on tokens [T, B, S + 1]."""
        return self.losses(state.params, multipliers, tokens)

    def _losses(self, params: Stack, multipliers: dict[str, float], tokens: Tensor) -> Tensor:
        effective = {
            name: stack if multipliers[name] == 1 else multipliers[name] * stack
            for name, stack in params.items()
        }
        with self._autocast():
            losses: Tensor = vmap(self._trial_loss)(effective, tokens)
        return losses

    def _trial_loss(self, params: Stack, tokens: Tensor) -> Tensor:
        values = {**params, **self.buffers}
        logits = functional_call(self.model, values, (tokens[:, :-1],), strict=True)
        return token_loss(logits.float(), tokens[:, 1:])

    def _update(
        self,
        state: TrialState,
        gradients: Stack,
        groups: Sequence[ParamGroup],
        schedule: Tensor,
    ) -> None:
        if self.train.clip is not None:
            clip_(gradients, self.train.clip, self.sliced)
        update = adamw_slices_ if self.sliced else adamw_
        update(state.params, gradients, state.optimizer, groups, schedule, self.betas)

    def _autocast(self) -> AbstractContextManager[object]:
        if self.train.precision != "bf16":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


def token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats: logits [B, S, V], targets [B, S].

    The target's logit is picked by comparison: its backward has no scatter and no atomics.
    """
    vocab = torch.arange(logits.shape[-1], device=logits.device)
    picked = torch.where(vocab == targets.unsqueeze(-1), logits, 0.0).sum(-1)
    return (logits.logsumexp(-1) - picked).mean()


def param_groups(plans: Sequence[Plan], device: torch.device) -> list[ParamGroup]:
    """Merges the parameters whose hyperparameters are equal in every trial."""
    merged: dict[tuple[tuple[float, float, float], ...], list[str]] = {}
    for parameter in zip(*plans, strict=True):
        values = tuple((trial.lr, trial.weight_decay, trial.eps) for trial in parameter)
        merged.setdefault(values, []).append(parameter[0].name)
    groups = []
    for values, names in merged.items():
        lr, weight_decay, eps = torch.tensor(values, dtype=torch.float64).unbind(1)
        groups.append(
            ParamGroup(tuple(names), *(x.float().to(device) for x in (lr, weight_decay, eps)))
        )
    return groups


def multipliers_of(plan: Plan) -> dict[str, float]:
    """Factor on each weight in the forward pass; the same for all trials of a width."""
    return {parameter.name: parameter.multiplier for parameter in plan}
