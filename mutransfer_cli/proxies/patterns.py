"""Weights of period two, with which a model computes the same at all widths.

Along every axis that grows, two values alternate; a matrix is divided by the sizes of the axes that
its products sum over. Every activation then has the same two values in turn at all widths, in any
layout of heads, gates or experts, unless the model's own code depends on width.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mutransfer_cli.proxies.observations import Use
from mutransfer_cli.proxies.operations import Axes

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Patterns:
    """How a model's parameters get their values at any width.

    Attributes:
        growing: axes that grow with width, by name.
        uses: of parameters in a forward pass, by name.
        own: the model's own values at the base width.
        own_buffers: its buffers at the base width.
    """

    growing: Mapping[str, Axes]
    uses: Mapping[str, Sequence[Use]]
    own: Mapping[str, Tensor]
    own_buffers: Mapping[str, Tensor] = field(default_factory=dict)

    def values(self, shapes: Shapes) -> dict[str, Tensor]:
        """Values for every parameter of a model with these shapes."""
        return {name: self._value(name, shapes[name]) for name in self.own}

    def buffers(self, growing: Mapping[str, Axes], shapes: Shapes) -> dict[str, Tensor]:
        """Values of buffers that grow, their first two own ones along each growing axis.

        Args:
            growing: axes of the buffers of numbers that grow with width.
        """
        found = {}
        for name, axes in growing.items():
            table = self.own_buffers[name]
            for axis in axes:
                index = torch.arange(shapes[name][axis]) % min(2, table.shape[axis])
                table = table.index_select(axis, index)
            found[name] = table
        return found

    def _value(self, name: str, shape: tuple[int, ...]) -> Tensor:
        axes, own = self.growing.get(name, ()), self.own[name]
        is_matrix = bool(self._of_matrix(name))
        table = random_table(name, own, axes) if is_matrix else own_table(name, own, axes)
        for axis in axes:
            table = table.index_select(axis, torch.arange(shape[axis]) % 2)
        return table / self.divisor(name, shape)

    def divisor(self, name: str, shape: tuple[int, ...]) -> float:
        """The number that a matrix of this shape is divided by; 1 for a tied one."""
        if self.is_tied(name):
            return 1.0
        growing = self.growing.get(name, ())
        return max(
            (
                math.prod(shape[x] if x in growing else math.sqrt(shape[x]) for x in use.axes)
                for use in self._products(name)
            ),
            default=1.0,
        )

    def is_tied(self, name: str) -> bool:
        """Whether a weight sums over a growing axis in one use and not in another: the products
        that do then grow with width."""
        growing = set(self.growing.get(name, ()))
        return len({bool(growing & set(use.axes)) for use in self._of_matrix(name)}) == 2

    def is_multiplied(self, name: str) -> bool:
        """Whether a product with the parameter sums over some axis."""
        return any(use.axes for use in self._products(name))

    def is_looked_up(self, name: str) -> bool:
        """Whether rows of the parameter are taken."""
        return any(use.kind == "lookup" for use in self.uses.get(name, ()))

    def _of_matrix(self, name: str) -> list[Use]:
        return [use for use in self.uses.get(name, ()) if use.kind in ("product", "lookup")]

    def _products(self, name: str) -> list[Use]:
        return [use for use in self.uses.get(name, ()) if use.kind == "product"]


def random_table(name: str, values: Tensor, axes: Axes) -> Tensor:
    """Normal values with two entries along growing axes; they depend on the name alone."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:7], "little")
    shape = [2 if axis in axes else size for axis, size in enumerate(values.shape)]
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def own_table(name: str, values: Tensor, axes: Axes) -> Tensor:
    """A vector's first two own values along growing axes; small ones where all are zero."""
    if not values.any():
        return random_table(name, values, axes) / 4
    table = values.detach().float()
    for axis in axes:
        table = table.index_select(axis, torch.arange(2) % table.shape[axis])
    return table
