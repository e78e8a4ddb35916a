"""A stand-in for CUDA graphs on a CPU: records the operations of one step and replays them.

A graph replays kernels with the addresses and numbers of the capture: everything that Python
computed is frozen. `Tape` does the same to the operations below autograd, so that a step which
depends on Python, or asks the host for a value, is found without a GPU.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from mutransfer_cli.train.capture import WARM_UP_STEPS

Result = TypeVar("Result")

# operations that need a value on the host and so wait for the device; a capture refuses them
HOST_QUESTIONS = {
    "aten::_local_scalar_dense",
    "aten::_unique2",
    "aten::equal",
    "aten::is_nonzero",
    "aten::item",
    "aten::lift_fresh",  # torch.tensor(number): a copy from pageable memory
    "aten::masked_select",
    "aten::nonzero",
}


class AsksTheHost(AssertionError):
    """Raised at an operation that no CUDA graph can hold, with its line in the program."""


class NoQuestions(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Mode that raises AsksTheHost at an operation that waits for the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        by_mask = name == "aten::index" and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if name in HOST_QUESTIONS or by_mask:
            others = ("site-packages", __file__)
            stack = traceback.extract_stack()
            line = [f for f in stack if not any(x in f.filename for x in others)][-1]
            raise AsksTheHost(f"{name} in {line.filename}:{line.lineno}: {line.line}")
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Made:
    """Refers to output number `output` of operation number `operation` of a tape."""

    operation: int
    output: int


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Mode that records operations; `replay` runs them again on the same tensors."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[tuple[Any, list[Any], Any]] = []
        self.results: list[tuple[Tensor, Made]] = []
        self._made: dict[int, Made] = {}
        self._alive: list[Any] = []  # an id belongs to a tensor only while it lives

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        values, structure = tree_flatten((args, kwargs or {}))
        frozen = [self._made.get(id(x), x) if isinstance(x, Tensor) else x for x in values]
        with NoQuestions():  # type: ignore[no-untyped-call]
            outputs = func(*args, **(kwargs or {}))
        for number, output in enumerate(tree_leaves(outputs)):
            given = any(output is value for value in values)  # an in-place operation
            if isinstance(output, Tensor) and not given:
                self._made[id(output)] = Made(len(self.operations), number)
        self._alive += [outputs, values]
        self.operations.append((func, frozen, structure))
        return outputs

    def keep(self, result: object) -> None:
        """Make every replay write its values into the tensors of `result`, as a graph does."""
        tensors = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        self.results = [(x, self._made[id(x)]) for x in tensors]

    def pool(self) -> None:
        """Do nothing: a tape has no memory to share."""

    @torch.no_grad()
    def replay(self) -> None:
        done: list[Sequence[Any]] = []

        def value(x: Any) -> Any:
            return done[x.operation][x.output] if isinstance(x, Made) else x

        for func, frozen, structure in self.operations:
            args, kwargs = tree_unflatten([value(x) for x in frozen], structure)
            done.append(tree_leaves(func(*args, **kwargs)))
        for tensor, made in self.results:
            tensor.copy_(value(made))


class Launched:
    """A graph that runs the step itself, for comparison with a tape."""

    def __init__(self, step: Callable[[], object], result: object) -> None:
        self.step, self.result = step, result

    def pool(self) -> None:
        """Do nothing: no memory is shared."""

    def replay(self) -> None:
        for held, new in zip(tree_leaves(self.result), tree_leaves(self.step()), strict=True):
            if isinstance(held, Tensor):
                held.data.copy_(new)


def taped(step: Callable[[], Result], beside: object) -> tuple[Tape, Result]:
    """Replace `captured` on a CPU."""
    for _ in range(WARM_UP_STEPS):
        step()
    tape = Tape()
    with tape:
        result = step()
    tape.keep(result)
    return tape, result


def launched(step: Callable[[], Result], beside: object) -> tuple[Launched, Result]:
    """Replace `captured` by a graph that runs every step anew."""
    for _ in range(WARM_UP_STEPS):
        step()
    result = step()
    return Launched(step, result), result
