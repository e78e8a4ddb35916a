"""A small batch that a model is run on before it is trained, and how the model is called on it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mutransfer_cli.proxies.batch import Batch, mapped
from mutransfer_cli.proxies.call import Call, RowCall, TokenCall
from mutransfer_cli.proxies.noise import Draw, Noisy, drawn, recorded, stream_generator
from mutransfer_cli.proxies.perceptron import MLP
from mutransfer_cli.proxies.samples import sample_call
from mutransfer_cli.spec.model import FunctionSpec

SEQUENCES = 2  # one would hide a lost axis
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
TARGETS = ("targets", "labels")


@dataclass(frozen=True)
class Example:
    """A small batch, and what its data ask of a model.

    Attributes:
        batch: tokens [B, S + 1], or samples, [B, ...] each.
        vocab: vocabulary size of tokens; None for samples.
        loss: the function that makes the loss of samples; None if the model does.
    """

    batch: Batch
    vocab: int | None
    loss: FunctionSpec | None = None

    @classmethod
    def of_tokens(cls, context: int, vocab: int) -> Example:
        """Two sequences in which every token follows its number."""
        tokens_BS = torch.arange(SEQUENCES * context).view(SEQUENCES, context)
        return cls(torch.cat([tokens_BS, tokens_BS[:, -1:] + 1], 1) % vocab, vocab)

    def to(self, device: torch.device) -> Example:
        """The same on a device."""
        return replace(self, batch=mapped(lambda x: x.to(device), self.batch))

    def run(self, model: nn.Module) -> Any:
        """The output of the model's forward pass with its own values, the same at every call."""
        with drawn(stream_generator(0, "example")) as generator:
            args, kwargs = call_of(model, self).arguments(self.batch, generator)
            return model(*args, **kwargs)

    def run_for_loss(self, model: nn.Module) -> Tensor:
        """The loss of the model with its own values, the same at every call."""
        call = call_of(model, self)
        with drawn(stream_generator(0, "example")) as generator:
            args, kwargs = call.arguments(self.batch, generator)
            return call.loss_from(model(*args, **kwargs), self.batch, generator)

    def noisy(self, model: nn.Module) -> Batch:
        """The batch, with the random numbers that the model asks for."""
        call = call_of(model, self)
        return with_noise(model, call, self.batch, "example")


def with_noise(model: nn.Module, call: Call, batch: Batch, purpose: str) -> Batch:
    """A batch [B, ...], with the random numbers for it if the model asks for some.

    Args:
        model: with values.
        purpose: what the numbers are for, which seeds them.
    """
    if not call.asks:
        return batch
    numbers = stream_generator(0, purpose)
    draws = draws_of(model, call, batch)
    place = next(model.parameters()).device
    return Noisy(batch, tuple(draw.numbers(numbers).to(place) for draw in draws))


def draws_of(model: nn.Module, call: Call, batch: Batch) -> tuple[Draw, ...]:
    """The random numbers that a model and its loss ask for on a batch [B, ...]."""
    if not call.asks:
        return ()
    values = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    values = {name: value.detach().clone() for name, value in values.items()}
    with torch.no_grad():
        return recorded(lambda generator: call.loss_with(model, values, batch, generator))


def call_of(
    model: nn.Module,
    example: Example | None = None,
    dtype: torch.dtype = torch.float32,
    z_loss: float = 0.0,
) -> Call:
    """How a model is called on batches like the example, or on tokens."""
    if isinstance(model, MLP):
        return RowCall(model.inputs, dtype)
    if example is None or example.vocab is not None:
        return TokenCall(takes_targets(model), dtype, z_loss)
    return sample_call(model, example.batch, example.loss, dtype)


def takes_targets(model: nn.Module) -> bool:
    """Whether the second argument of the model's forward is required, or named as targets are."""
    positional = [
        parameter
        for parameter in inspect.signature(model.forward).parameters.values()
        if parameter.kind in POSITIONAL
    ]
    needed = [p for p in positional if p.default is inspect.Parameter.empty]
    return len(needed) > 1 or any(p.name in TARGETS for p in positional[1:2])
