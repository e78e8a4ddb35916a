"""How a model is called on samples of the user's own, and where its loss comes from.

A dict of samples is given by name, a tuple by position, a tensor alone. The loss is what the model
returns, or the result of a function of the outputs and the batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.batch import Batch, leaves, mapped
from mutransfer_cli.proxies.call import Arguments, Call, Generator, described, loss_of
from mutransfer_cli.proxies.factory import import_function
from mutransfer_cli.spec.model import FunctionSpec

GENERATOR = "generator"  # the parameter of a forward or a loss that gets one
BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class OwnLoss:
    """The user's function of the outputs and the batch.

    Attributes:
        where: begins every error message.
    """

    where: str
    function: Callable[..., Any]
    args: Mapping[str, Any]
    asks: bool

    @classmethod
    def of(cls, spec: FunctionSpec) -> OwnLoss:
        where = f"loss.factory {spec.factory}"
        function = import_function(spec.factory, where)
        signature = inspect.signature(function)
        asks = GENERATOR in signature.parameters
        try:
            signature.bind(None, None, **spec.args, **{GENERATOR: None} if asks else {})
        except TypeError as error:
            raise InputError(
                f"{where}: is called with outputs, batch and loss.args ({error})"
            ) from error
        return cls(where, function, spec.args, asks)

    def __call__(self, output: Any, batch: Batch, generator: Generator) -> Any:
        extra = {GENERATOR: generator} if self.asks else {}
        return self.function(output, batch, **self.args, **extra)


@dataclass(frozen=True)
class SampleCall(Call):
    """A model of the user's own samples, [B, ...] each; floats get the type of the weights.

    Attributes:
        names: keys of a dict of samples that the forward takes; None for a tuple.
        count: number of a tuple's items that the forward takes.
        own_loss: makes the loss; None if the model does.
        model_asks: whether the forward takes a generator.
    """

    names: tuple[str, ...] | None
    count: int
    own_loss: OwnLoss | None
    model_asks: bool
    dtype: torch.dtype = torch.float32
    tie_weights: bool = True

    def untied(self, output_factor: float) -> SampleCall:
        if output_factor != 1:
            raise InputError(
                "model: uses one weight under one name as embedding and as readout, and nothing "
                f"can multiply its logits by {output_factor:.4g}; make them in an nn.Linear whose "
                "weight is the embedding's"
            )
        return replace(self, tie_weights=False)

    @property
    def asks(self) -> bool:  # type: ignore[override]
        """Whether the model or the loss asks for a generator."""
        return self.model_asks or (self.own_loss is not None and self.own_loss.asks)

    def arguments(self, batch: Batch, generator: Generator) -> Arguments:
        batch = self._typed(batch)
        extra = {GENERATOR: generator} if self.model_asks else {}
        if self.names is not None:
            return (), {name: batch[name] for name in self.names} | extra
        return (batch[: self.count] if isinstance(batch, tuple) else (batch,)), extra

    def loss_from(self, output: Any, batch: Batch, generator: Generator) -> Tensor:
        if self.own_loss is None:
            found = loss_of(output)
            if found is None or found.dim():
                raise InputError(
                    f"model: forward returned {described(output)}, expected its loss: one number, "
                    "or an object or dict with .loss; return it, or give loss: {factory: "
                    "package.module:function} of outputs and batch"
                )
            return found.to(self.dtype)
        loss = self.own_loss(output, self._typed(batch), generator)
        if not isinstance(loss, Tensor) or loss.dim():
            raise InputError(
                f"{self.own_loss.where}: returned {described(loss)}, expected one number, the mean "
                "over the batch"
            )
        return loss.to(self.dtype)

    def _typed(self, batch: Batch) -> Batch:
        return mapped(lambda x: x.to(self.dtype) if x.is_floating_point() else x, batch)


def sample_call(
    model: nn.Module, batch: Batch, loss: FunctionSpec | None, dtype: torch.dtype
) -> SampleCall:
    """How a model is called on samples like those of a batch.

    Raises:
        InputError: its forward needs what the samples do not have.
    """
    parameters = inspect.signature(model.forward).parameters
    own_loss = OwnLoss.of(loss) if loss else None
    asks = GENERATOR in parameters
    given = {name: p for name, p in parameters.items() if name != GENERATOR}
    names, count = None, 1
    if isinstance(batch, dict):
        names = names_taken(given, batch)
    elif isinstance(batch, tuple):
        count = count_taken(given, batch)
    return SampleCall(names, count, own_loss, asks, dtype)


def names_taken(
    parameters: Mapping[str, inspect.Parameter], batch: Mapping[str, Any]
) -> tuple[str, ...]:
    """The keys of a batch that a forward takes."""
    needed = [
        name
        for name, p in parameters.items()
        if p.kind in BY_PLACE + BY_NAME and p.default is inspect.Parameter.empty
    ]
    if missing := [name for name in needed if name not in batch]:
        raise InputError(
            f"model: its forward needs {', '.join(missing)}, and the samples of data.factory have "
            f"{', '.join(batch)}; give the samples those names, or the arguments a default"
        )
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return tuple(batch)
    return tuple(name for name in batch if name in parameters)


def count_taken(parameters: Mapping[str, inspect.Parameter], batch: tuple[Any, ...]) -> int:
    """How many items of a batch a forward takes."""
    places = [p for p in parameters.values() if p.kind in BY_PLACE]
    needed = sum(p.default is inspect.Parameter.empty for p in places)
    if needed > len(batch):
        raise InputError(
            f"model: its forward needs {needed} arguments "
            f"({', '.join(p.name for p in places[:needed])}), and the samples of data.factory are "
            f"tuples of {len(batch)}; return as many, or dicts with their names"
        )
    if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters.values()):
        return len(batch)
    return min(len(places), len(batch))


def structure(batch: Batch) -> str:
    """The places, shapes and types of a batch, for people."""
    return ", ".join(
        f"{place or 'a tensor'} {list(x.shape)} {str(x.dtype).removeprefix('torch.')}"
        for place, x in leaves(batch)
    )
