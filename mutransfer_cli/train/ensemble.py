"""Many trials of one width trained in one step.

Shapes: T trials, B batch, S context. The gradient is taken outside vmap: trials share nothing, so
the gradient of the summed losses is the stack of their own gradients, and every backward kernel
runs once on the stack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from operator import itemgetter
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils._python_dispatch import TorchDispatchMode

from mutransfer_cli.errors import InputError
from mutransfer_cli.optim.section import ParamGroup
from mutransfer_cli.optim.stack import OptimizerState, Stack, begin, build_update, clip_
from mutransfer_cli.proxies.batch import Batch, mapped
from mutransfer_cli.proxies.calling import constants
from mutransfer_cli.proxies.example import Example, call_of, draws_of, takes_targets, with_noise
from mutransfer_cli.proxies.inits import as_at_base
from mutransfer_cli.proxies.noise import Draw, stream_generator
from mutransfer_cli.proxies.transformer import READOUT, Transformer
from mutransfer_cli.proxies.tying import other_names, output_factor, tied_multipliers, with_output
from mutransfer_cli.rules.choices import Role
from mutransfer_cli.rules.plan import PlannedParameter
from mutransfer_cli.spec.optimizers import OptimizerSpec
from mutransfer_cli.spec.sweep import TrainSpec
from mutransfer_cli.torch_private import autocast_before_vmap, batch_cpu_attention, prepare_inductor
from mutransfer_cli.train.capture import capturable_embeddings
from mutransfer_cli.train.execution import EAGER, Execution
from mutransfer_cli.train.loss_head import linear_cross_entropy

Plan = tuple[PlannedParameter, ...]
Multipliers = dict[str, float]
Key = tuple[str, str]
# runs one trial's forward pass by calling its argument, and returns what it observed
Look = Callable[[Callable[[], Tensor]], dict[Key, Tensor]]


@dataclass(frozen=True)
class Trials:
    """T trials in training, including everything their plans specify.

    Attributes:
        params: weights as stacked leaves that require grad; training changes them.
        state: state of the optimizer; training changes it.
        groups: hyperparameters of the update.
        multipliers: factor on each weight in the forward pass, the same for all trials; a tied
            embedding is there under all its names.
    """

    params: Stack
    state: OptimizerState
    groups: list[ParamGroup]
    multipliers: Multipliers


class NonFinite(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is in force, looks for values that are not finite in what operations write.

    Infinite values alone, as of a mask, are no sign of divergence.
    """

    found = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and out.is_floating_point():
            self.found = self.found or bool(out.isnan().any())
        return out


class Trunk(nn.Module):
    """The built-in model up to its readout, as a module for functional_call."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model.before_readout(tokens)


class Ensemble:
    """Trains and evaluates groups of trials of one width; holds the functions compiled for it.

    The built-in model never materialises all logits at once.

    Args:
        model: the proxy at this width; only its buffers and frozen parameters are used.
        train: clipping threshold and precision.
        example: a batch like those to come; None for tokens.
    """

    def __init__(
        self,
        model: nn.Module,
        train: TrainSpec,
        optimizer: OptimizerSpec,
        device: torch.device,
        execution: Execution = EAGER,
        example: Example | None = None,
    ) -> None:
        self.dtype = torch.float64 if train.precision == "fp64" else torch.float32
        self.model = model.to(device, self.dtype)
        self.buffers = constants(self.model)
        self.trunk = Trunk(self.model) if isinstance(self.model, Transformer) else None
        self.call = self.plain_call = call_of(self.model, example, self.dtype, train.z_loss)
        self.train, self.device, self.execution = train, device, execution
        # of the seeds started last: trials that enter slots one by one mostly share their seed
        self.noise: dict[int, list[Tensor]] = {}
        self.other_names: dict[str, str] = {}
        self.by_trial = device.type == "cpu" and not (execution.compiled or execution.captured)
        self.optimizer = optimizer
        self.apply_ = build_update(optimizer, self.by_trial)
        self.losses: Callable[[Stack, Multipliers, Batch], Tensor] = self._losses
        self.update: Callable[[Trials, Stack, Tensor], None] = self._update
        if device.type == "cpu":
            batch_cpu_attention()
        if device.type == "cuda" or execution.captured:
            capturable_embeddings(self.model)
        if train.precision == "bf16":
            autocast_before_vmap()
        if execution.compiled:
            prepare_inductor()
            # dynamo counts the graphs of all widths under one code object and gives up at eight
            torch.compiler.reset()
            self.losses = torch.compile(self._losses, dynamic=False)
            self.update = torch.compile(self._update, dynamic=False)

    def start(self, plans: Sequence[Plan], seeds: Sequence[int]) -> Trials:
        """Start T trials, each with initial weights drawn by its plan and seed.

        Raises:
            InputError: a plan does not hold every trainable parameter of the model once, or a tied
                weight whose output multiplier cannot be applied.
        """
        for plan in plans:
            refuse_other_parameters(plan, self.model)
        self._tie(plans[0])
        params: Stack = {}
        self.noise = {seed: self.noise.get(seed) or draw(plans[0], seed) for seed in seeds}
        for index, planned in enumerate(plans[0]):
            drawn = {seed: noise[index].to(self.device) for seed, noise in self.noise.items()}
            stack = torch.stack(
                [
                    self._first_values(plan[index], drawn[seed])
                    for plan, seed in zip(plans, seeds, strict=True)
                ]
            )
            params[planned.name] = stack.requires_grad_()
        groups = param_groups(plans, self.device, self.dtype)
        factors = multipliers(plans[0]) | tied_multipliers(plans[0], self.model)
        return Trials(params, begin(self.optimizer, params, groups), groups, factors)

    def _first_values(self, planned: PlannedParameter, drawn: Tensor) -> Tensor:
        if planned.keeps_draw:
            own = self.model.get_parameter(planned.name).detach()
            return as_at_base(own, planned.init_mean, planned.init_std or 0.0)
        return first_values(planned, drawn.to(self.dtype))

    def _tie(self, plan: Plan) -> None:
        """Call the model so that a tied weight has its output multiplier: by name, or on logits."""
        self.call, self.other_names = self.plain_call, {}
        if with_output(plan):
            factor = output_factor(plan, self.model, takes_targets(self.model))
            self.call = self.plain_call.untied(factor)
            named = self.model.named_parameters(remove_duplicate=False)
            buffers = self.model.named_buffers(remove_duplicate=False)
            self.other_names = other_names(named) | other_names(buffers)

    def step(self, trials: Trials, batch: Batch, schedule: Tensor) -> tuple[Tensor, Stack]:
        """Take one training step in place; return losses [T] and the clipped gradients.

        Args:
            batch: tokens [T, B, S + 1], or samples, [T, B, ...] each.
            schedule: factor on the peak learning rate, [T].
        """
        losses = self.losses(trials.params, trials.multipliers, batch)
        # an expert that no token reached has a gradient of 0
        leaves = list(trials.params.values())
        found = torch.autograd.grad(losses.sum(), leaves, materialize_grads=True)
        gradients = dict(zip(trials.params, found, strict=True))
        with torch.no_grad():
            self.update(trials, gradients, schedule)
        return losses.detach(), gradients

    def draws(self, batch: Batch) -> tuple[Draw, ...]:
        """The random numbers that the model and its loss ask for on a batch [B, ...]."""
        return draws_of(self.model, self.call, batch)

    def with_noise(self, batch: Batch, purpose: str) -> Batch:
        """A batch [B, ...] with the random numbers for it, if any are asked for."""
        return with_noise(self.model, self.call, batch, purpose)

    @contextmanager
    def uncompiled(self) -> Iterator[None]:
        """Inside, steps run without compilation."""
        compiled = self.losses, self.update
        self.losses, self.update = self._losses, self._update
        try:
            yield
        finally:
            self.losses, self.update = compiled

    @torch.no_grad()
    def evaluate(self, trials: Trials, batch: Batch) -> Tensor:
        """Losses [T] on a batch as for `step`; never compiled, which would add a graph."""
        return self._losses(trials.params, trials.multipliers, batch)

    @torch.no_grad()
    def watch(
        self, params: Stack, multipliers: Multipliers, batch: Batch, look: Look
    ) -> dict[Key, Tensor]:
        """Results of `look` for each trial's forward pass, stacked over trials.

        The passes are never compiled and run without autocast.

        Args:
            batch: the batch of every trial, [B, ...].
        """

        def of_trial(params: Stack, batch: Batch) -> dict[Key, Tensor]:
            return look(lambda: self._trial_loss(params, batch))

        stacks = effective_weights(params, multipliers, self.other_names)
        count = len(next(iter(params.values())))
        if self.execution.batched:
            each_its_own = mapped(lambda x: x.expand(count, *x.shape), batch)
            stacked: dict[Key, Tensor] = vmap(of_trial)(stacks, each_its_own)
            return stacked
        each = [of_trial(one_trial(stacks, trial), batch) for trial in range(count)]
        return {key: torch.stack([found[key] for found in each]) for key in each[0]}

    def _losses(self, params: Stack, multipliers: Multipliers, batch: Batch) -> Tensor:
        effective = effective_weights(params, multipliers, self.other_names)
        with self._autocast():
            if self.trunk is None:
                return self._over_trials(self._trial_loss, effective, batch)
            assert isinstance(batch, Tensor), "the built-in decoder reads tokens"
            hidden = self._over_trials(self._trial_hidden, effective, batch[..., :-1])
            hidden = hidden.flatten(1, 2)
            targets = batch[..., 1:].flatten(1, 2)
            return linear_cross_entropy(hidden, effective[READOUT], targets, self.train.z_loss)

    def _over_trials(
        self, forward: Callable[[Stack, Any], Tensor], params: Stack, batch: Batch
    ) -> Tensor:
        if self.execution.batched:
            stacked: Tensor = vmap(forward)(params, batch)
            return stacked
        count = len(next(iter(params.values())))
        each = [(one_trial(params, t), mapped(itemgetter(t), batch)) for t in range(count)]
        return torch.stack([self._or_diverged(forward, *one) for one in each])

    def _or_diverged(
        self, forward: Callable[[Stack, Any], Tensor], params: Stack, batch: Batch
    ) -> Tensor:
        """The loss of one trial; NaN if the model's own code stops at values that overflowed."""
        try:
            return forward(params, batch)
        except Exception:
            seen = NonFinite()  # type: ignore[no-untyped-call]
            with seen, suppress(Exception):
                forward(params, batch)
            if not seen.found:
                raise
            return torch.stack([torch.nan * value.sum() for value in params.values()]).sum()

    def _trial_hidden(self, params: Stack, tokens: Tensor) -> Tensor:
        assert self.trunk is not None
        values = {f"model.{name}": value for name, value in self._values(params).items()}
        hidden: Tensor = functional_call(self.trunk, values, (tokens,), strict=True)
        return hidden

    def _trial_loss(self, params: Stack, batch: Any) -> Tensor:
        return self.call.loss(self.model, self._values(params), batch)

    def _values(self, params: Stack) -> Stack:
        """Weights and buffers; copies of the shared buffers if the model may change them."""
        buffers = self.buffers
        if not self.execution.batched:
            buffers = {name: buffer.clone() for name, buffer in buffers.items()}
        others = {n: buffers[first] for n, first in self.other_names.items() if first in buffers}
        return {**params, **buffers, **others}

    def _update(self, trials: Trials, gradients: Stack, schedule: Tensor) -> None:
        if self.train.clip is not None:
            clip_(gradients, self.train.clip, self.by_trial)
        self.apply_(trials.params, gradients, trials.state, trials.groups, schedule)

    def _autocast(self) -> AbstractContextManager[object]:
        if self.train.precision != "bf16":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


def effective_weights(
    params: Stack, multipliers: Multipliers, other_names: Mapping[str, str] = MappingProxyType({})
) -> Stack:
    """The weights times their multipliers, as the forward pass uses them.

    Args:
        other_names: names by which weights are to be there too, each with a multiplier of its own.
    """
    others = {name: params[first] for name, first in other_names.items() if first in params}
    return {
        name: stack if multipliers.get(name, 1) == 1 else multipliers[name] * stack
        for name, stack in (params | others).items()
    }


def one_trial(params: Stack, trial: int) -> Stack:
    return {name: stack[trial] for name, stack in params.items()}


def first_values(planned: PlannedParameter, drawn: Tensor) -> Tensor:
    """Initial values of a parameter from standard normal ones."""
    assert planned.init_std is not None, "a plan knows every init"
    values = planned.init_std * drawn
    return values + planned.init_mean if planned.init_mean else values


def draw(plan: Plan, seed: int) -> list[Tensor]:
    """Standard normal values for every parameter; they depend on the seed and shapes alone."""
    generator = stream_generator(seed, "init")
    return [torch.randn(planned.shape, generator=generator) for planned in plan]


def refuse_other_parameters(plan: Plan, model: nn.Module) -> None:
    """Raise InputError unless the plan holds every trainable parameter of the model once."""
    planned = [parameter.name for parameter in plan]
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    wrong = set(planned) ^ set(trained)
    if wrong or len(planned) != len(set(planned)):
        names = ", ".join(sorted(wrong)) or "a parameter is planned twice"
        raise InputError(f"the plan and the model hold different parameters: {names}")


def param_groups(
    plans: Sequence[Plan], device: torch.device, dtype: torch.dtype
) -> list[ParamGroup]:
    """Group the parameters of each role that have equal hyperparameters in every trial."""
    merged: dict[tuple[Role, tuple[tuple[float, float, float], ...]], list[str]] = {}
    for parameter in zip(*plans, strict=True):
        values = tuple((p.lr, p.weight_decay or 0.0, p.eps or 0.0) for p in parameter)
        role = parameter[0].role
        assert role is not None, "a plan knows every role"
        merged.setdefault((role, values), []).append(parameter[0].name)
    groups = []
    for (role, values), names in merged.items():
        per_trial = torch.tensor(values, dtype=torch.float64).unbind(1)
        lr, weight_decay, eps = (x.to(device, dtype) for x in per_trial)
        groups.append(ParamGroup(tuple(names), role, lr, weight_decay, eps))
    return groups


def multipliers(plan: Plan) -> Multipliers:
    return {parameter.name: parameter.multiplier for parameter in plan}
