"""Random numbers that a model or a loss asks a generator for, drawn ahead of each step.

A torch.Generator cannot be batched by vmap, nor held by a CUDA graph. So a first run records what
is asked for; later the numbers are drawn on the host, by the seed and the step, and go to the model
as a part of its batch, which answers the same questions in the same order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.batch import Batch, leaves

# they depend on sizes and plain numbers alone, so that they can be drawn ahead
DRAWN = (torch.rand, torch.randn, torch.randint, torch.randperm, torch.normal)
Ask = Callable[[Callable[..., Tensor], tuple[Any, ...], dict[str, Any]], Tensor]


class Noisy(NamedTuple):
    """A batch and the random numbers for it, in the order in which they are asked for."""

    batch: Batch
    noise: tuple[Tensor, ...]


@dataclass(frozen=True)
class Draw:
    """A call that draws random numbers, such as `torch.randn(8, 3)`, without its generator."""

    function: Callable[..., Tensor]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def numbers(self, generator: torch.Generator) -> Tensor:
        return self.function(*self.args, **self.kwargs, generator=generator)


def stream_generator(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator for a seed and a purpose; its numbers are the same for every device."""
    digest = hashlib.sha256(f"{purpose}:{seed}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))


@contextmanager
def drawn(numbers: torch.Generator) -> Iterator[torch.Generator]:
    """Inside, the yielded generator gives the numbers of another, one draw after the other."""
    with answered(lambda f, args, kwargs: Draw(f, args, kwargs).numbers(numbers)) as generator:
        yield generator


def recorded(run: Callable[[torch.Generator], object]) -> tuple[Draw, ...]:
    """Run a function of a generator, and return the draws from it."""
    draws: list[Draw] = []
    numbers = stream_generator(0, "recorded")

    def record(function: Callable[..., Tensor], args: Any, kwargs: dict[str, Any]) -> Tensor:
        draws.append(Draw(function, args, kwargs | {"device": None}))
        return draws[-1].numbers(numbers).to(kwargs.get("device"))

    with answered(record) as generator:
        run(generator)
    return tuple(draws)


@contextmanager
def replayed(noise: Sequence[Tensor]) -> Iterator[torch.Generator]:
    """Inside, the yielded generator gives these numbers in their order.

    Raises:
        InputError: others are asked for than were recorded.
    """
    left = iter(noise)

    def replay(function: Callable[..., Tensor], args: Any, kwargs: dict[str, Any]) -> Tensor:
        found, asked = next(left, None), size_asked(function, args, kwargs)
        if found is None or tuple(found.shape) != asked:
            first = "none" if found is None else f"those of shape {list(found.shape)}"
            raise InputError(
                f"model: asks its generator for numbers of shape {list(asked)} where its first run "
                f"asked for {first}; draw the same for every batch, whatever its values are"
            )
        return found

    with answered(replay) as generator:
        yield generator


def size_asked(
    function: Callable[..., Tensor], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[int, ...]:
    """The shape that a call of one of DRAWN gives."""
    if function is torch.randperm:
        return (kwargs["n"] if "n" in kwargs else args[0],)
    if "size" in kwargs:
        return tuple(kwargs["size"])
    if function in (torch.rand, torch.randn) and isinstance(args[0], int):
        return tuple(args)
    return tuple(args[-1])


@contextmanager
def answered(ask: Ask) -> Iterator[torch.Generator]:
    """Inside, `ask` answers every call that is given the yielded generator."""
    generator = torch.Generator()
    with _Intercepted(generator, ask):
        yield generator


class _Intercepted(TorchFunctionMode):
    def __init__(self, generator: torch.Generator, ask: Ask) -> None:
        super().__init__()
        self.generator, self.ask = generator, ask

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if kwargs.get("generator") is not self.generator:
            return function(*args, **kwargs)
        del kwargs["generator"]
        of_tensor = any(isinstance(x, Tensor) for _, x in leaves((tuple(args), kwargs)))
        if function not in DRAWN or of_tensor:
            name = getattr(function, "__name__", str(function))
            raise InputError(
                f"model: {name} cannot be drawn from the generator ahead of the step; draw by "
                "torch.rand, randn, randint or randperm of a size (for example "
                "torch.rand(p.shape, generator=generator) < p)"
            )
        return self.ask(function, args, kwargs)
