"""How a model is called on a batch, and what its loss is.

A call is a pure function of a model's values, for functional_call under vmap. Shapes: B batch, S
context, V vocabulary.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.batch import Batch
from mutransfer_cli.proxies.noise import Noisy, replayed
from mutransfer_cli.proxies.perceptron import squared_error

Values = Mapping[str, Tensor]  # every parameter and buffer by name
Arguments = tuple[tuple[Any, ...], dict[str, Any]]
Generator = torch.Generator | None


class Call(ABC):
    """How one model is called on batches of its data."""

    asks: bool = False
    """Whether the model or the loss asks for a generator."""
    tie_weights: bool = True
    """Whether one name stands for all names of a tensor."""

    @abstractmethod
    def arguments(self, batch: Batch, generator: Generator) -> Arguments:
        """The arguments of the forward pass, by position and by name."""

    @abstractmethod
    def loss_from(self, output: Any, batch: Batch, generator: Generator) -> Tensor:
        """The loss, one number, from the output of the forward pass."""

    def untied(self, output_factor: float) -> Call:
        """The same with values by every name of a tensor, and logits times the factor."""
        raise AssertionError("only models with tied weights are untied")

    def loss(self, model: nn.Module, values: Values, batch: Batch) -> Tensor:
        """The loss of a model with these values, one number."""
        if not isinstance(batch, Noisy):
            return self.loss_with(model, values, batch, None)
        with replayed(batch.noise) as generator:
            return self.loss_with(model, values, batch.batch, generator)

    def loss_with(
        self, model: nn.Module, values: Values, batch: Batch, generator: Generator
    ) -> Tensor:
        """The loss, with a generator for what it asks for."""
        args, kwargs = self.arguments(batch, generator)
        tied = self.tie_weights
        output = functional_call(model, dict(values), args, kwargs, strict=True, tie_weights=tied)
        return self.loss_from(output, batch, generator)


@dataclass(frozen=True)
class TokenCall(Call):
    """A model of tokens [B, S + 1], of which the last S are the targets.

    Attributes:
        with_targets: whether the model is given the targets; then its own loss counts if it returns
            one.
        dtype: type of the loss.
        z_loss: factor on the mean of log(Z)^2.
        output_factor: on the logits.
    """

    with_targets: bool
    dtype: torch.dtype = torch.float32
    z_loss: float = 0.0
    tie_weights: bool = True
    output_factor: float = 1.0

    def untied(self, output_factor: float) -> TokenCall:
        return replace(self, tie_weights=False, output_factor=output_factor)

    def arguments(self, batch: Tensor, generator: Generator = None) -> Arguments:
        # contiguous, because user code views them
        inputs, targets = batch[:, :-1].contiguous(), batch[:, 1:].contiguous()
        return ((inputs, targets) if self.with_targets else (inputs,)), {}

    def loss_from(self, output: Any, batch: Tensor, generator: Generator = None) -> Tensor:
        own = loss_of(output) if self.with_targets else None
        if own is not None and not self.z_loss:
            return own.to(self.dtype)
        logits = logits_of(output)
        if logits is None:
            raise unusable(output, "logits")
        flat = logits.to(self.dtype).flatten(0, 1)
        flat = flat if self.output_factor == 1 else self.output_factor * flat
        if own is not None:
            return own.to(self.dtype) + z_penalty(flat.logsumexp(-1), self.z_loss)
        return token_loss(flat, batch[:, 1:].flatten(), self.z_loss)


@dataclass(frozen=True)
class RowCall(Call):
    """The built-in perceptron on rows [B, inputs + outputs], in the type of its weights."""

    inputs: int
    dtype: torch.dtype = torch.float32

    def arguments(self, batch: Tensor, generator: Generator = None) -> Arguments:
        return (batch[:, : self.inputs].to(self.dtype),), {}

    def loss_from(self, output: Any, batch: Tensor, generator: Generator = None) -> Tensor:
        return squared_error(output.to(self.dtype), batch[:, self.inputs :].to(self.dtype))


def loss_of(output: Any) -> Tensor | None:
    """The loss in a model's output: itself, `.loss`, or the one number of a tuple."""
    if isinstance(output, Tensor):
        return None if output.dim() else output
    if isinstance(found := named(output, "loss"), Tensor):
        return found
    items = output if isinstance(output, tuple | list) else ()
    return next((x for x in items if isinstance(x, Tensor) and not x.dim()), None)


def logits_of(output: Any) -> Tensor | None:
    """The logits in a model's output: itself, `.logits`, or the first of a tuple."""
    if isinstance(output, Tensor):
        return output if output.dim() else None
    if isinstance(found := named(output, "logits"), Tensor):
        return found
    first = output[0] if isinstance(output, tuple | list) and output else None
    return first if isinstance(first, Tensor) and first.dim() else None


def named(output: Any, name: str) -> Any:
    return output.get(name) if isinstance(output, dict) else getattr(output, name, None)


def unusable(output: Any, wanted: str) -> InputError:
    """The error for an output without what is wanted of it."""
    return InputError(
        f"model: forward returned {described(output)}, expected a tensor, a tuple that begins with "
        f"one, or an object with .{wanted}"
    )


def described(output: Any) -> str:
    """The type of an output, with the shape of a tensor and the parts of a tuple or dict."""
    if isinstance(output, Tensor):
        return f"a tensor of shape {list(output.shape)}"
    if isinstance(output, dict):
        parts = ", ".join(f"{key}: {described(item)}" for key, item in output.items())
        return f"{type(output).__name__} ({parts})"
    if isinstance(output, tuple | list):
        return f"{type(output).__name__} ({', '.join(map(described, output))})"
    return type(output).__name__


def token_loss(logits_NV: Tensor, targets_N: Tensor, z_loss: float = 0.0) -> Tensor:
    """Mean cross-entropy over N of whole logits [..., N, V] and targets [..., N], shape [...]."""
    # the target's logit is picked by comparison: its backward has no scatter and no atomics
    vocab_V = torch.arange(logits_NV.shape[-1], device=logits_NV.device)
    picked_N = torch.where(vocab_V == targets_N.unsqueeze(-1), logits_NV, 0.0).sum(-1)
    log_Z_N = logits_NV.logsumexp(-1)
    losses = (log_Z_N - picked_N).mean(-1)
    return losses + z_penalty(log_Z_N, z_loss) if z_loss else losses


def z_penalty(log_Z_N: Tensor, z_loss: float) -> Tensor:
    """The gradient of z_loss times the mean of log(Z)^2, and the value 0."""
    penalty = z_loss * log_Z_N.square().mean(-1)
    return penalty - penalty.detach()
