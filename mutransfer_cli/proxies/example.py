"""How a model is called on a batch, and what its loss is.

A call is a pure function of a model's values, for functional_call under vmap. Shapes: B batch, S
context, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.batch import Batch, mapped
from mutransfer_cli.proxies.perceptron import MLP, squared_error

Values = Mapping[str, Tensor]  # every parameter and buffer by name

SEQUENCES = 2  # one would hide a lost axis
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
TARGETS = ("targets", "labels")


class Call(Protocol):
    """How one model is called on batches of its data."""

    def output(self, model: nn.Module, values: Values, batch: Any) -> Any:
        """The output of the forward pass, as the model returns it."""

    def loss(self, model: nn.Module, values: Values, batch: Any) -> Tensor:
        """The loss, one number."""

    def untied(self, output_factor: float) -> Call:
        """The same with values by every name of a tensor, and logits times the factor."""


@dataclass(frozen=True)
class TokenCall:
    """A model of tokens [B, S + 1], of which the last S are the targets.

    Attributes:
        with_targets: whether the model is given the targets; then its own loss counts if it returns
            one.
        dtype: type of the loss.
        z_loss: factor on the mean of log(Z)^2.
        tie_weights: whether one name stands for all names of a tensor.
        output_factor: on the logits.
    """

    with_targets: bool
    dtype: torch.dtype = torch.float32
    z_loss: float = 0.0
    tie_weights: bool = True
    output_factor: float = 1.0

    def output(self, model: nn.Module, values: Values, batch: Tensor) -> Any:
        args, tied = self.arguments(batch), self.tie_weights
        return functional_call(model, dict(values), args, strict=True, tie_weights=tied)

    def untied(self, output_factor: float) -> TokenCall:
        return replace(self, tie_weights=False, output_factor=output_factor)

    def loss(self, model: nn.Module, values: Values, batch: Tensor) -> Tensor:
        output = self.output(model, values, batch)
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

    def arguments(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """The arguments of the forward pass; contiguous, as user code views them."""
        inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
        return (inputs, targets) if self.with_targets else (inputs,)


@dataclass(frozen=True)
class RowCall:
    """A perceptron on rows [B, inputs + outputs], in the type of its weights."""

    dtype: torch.dtype = torch.float32

    def output(self, model: nn.Module, values: Values, batch: Tensor) -> Any:
        assert isinstance(model, MLP), "only the built-in perceptron reads rows"
        x = batch[:, : model.inputs].to(self.dtype)
        return functional_call(model, dict(values), (x,), strict=True)

    def loss(self, model: nn.Module, values: Values, batch: Tensor) -> Tensor:
        assert isinstance(model, MLP), "only the built-in perceptron reads rows"
        outputs, y = self.output(model, values, batch), batch[:, model.inputs :]
        return squared_error(outputs.to(self.dtype), y.to(self.dtype))

    def untied(self, output_factor: float) -> RowCall:
        raise AssertionError("the built-in perceptron ties no weights")


@dataclass(frozen=True)
class Example:
    """A small batch that a model is run on before it is trained.

    Attributes:
        batch: tokens [B, S + 1], or samples.
        vocab: vocabulary size of tokens; None for samples.
    """

    batch: Batch
    vocab: int | None

    @classmethod
    def of_tokens(cls, context: int, vocab: int) -> Example:
        """Two sequences in which every token follows its number."""
        tokens_BS = torch.arange(SEQUENCES * context).view(SEQUENCES, context)
        return cls(torch.cat([tokens_BS, tokens_BS[:, -1:] + 1], 1) % vocab, vocab)

    def to(self, device: torch.device) -> Example:
        """The same on a device."""
        return replace(self, batch=mapped(lambda x: x.to(device), self.batch))

    def run(self, model: nn.Module) -> Any:
        """The output of the model's forward pass with its own values."""
        return model(*TokenCall(takes_targets(model)).arguments(self.batch))


def call_of(
    model: nn.Module,
    example: Example | None = None,
    dtype: torch.dtype = torch.float32,
    z_loss: float = 0.0,
) -> Call:
    """How a model is called on batches like the example, or on tokens."""
    if isinstance(model, MLP):
        return RowCall(dtype)
    return TokenCall(takes_targets(model), dtype, z_loss)


def takes_targets(model: nn.Module) -> bool:
    """Whether the second argument of the model's forward is required, or named as targets are."""
    positional = [
        parameter
        for parameter in inspect.signature(model.forward).parameters.values()
        if parameter.kind in POSITIONAL
    ]
    needed = [p for p in positional if p.default is inspect.Parameter.empty]
    return len(needed) > 1 or any(p.name in TARGETS for p in positional[1:2])


def loss_of(output: Any) -> Tensor | None:
    """The loss in a model's output: itself, `.loss`, or the one number of a tuple."""
    if isinstance(output, Tensor):
        return None if output.dim() else output
    if isinstance(named := _named(output, "loss"), Tensor):
        return named
    items = output if isinstance(output, tuple | list) else ()
    return next((x for x in items if isinstance(x, Tensor) and not x.dim()), None)


def logits_of(output: Any) -> Tensor | None:
    """The logits in a model's output: itself, `.logits`, or the first of a tuple."""
    if isinstance(output, Tensor):
        return output if output.dim() else None
    if isinstance(named := _named(output, "logits"), Tensor):
        return named
    first = output[0] if isinstance(output, tuple | list) and output else None
    return first if isinstance(first, Tensor) and first.dim() else None


def _named(output: Any, name: str) -> Any:
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
