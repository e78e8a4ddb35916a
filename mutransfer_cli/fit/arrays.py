"""Arrays, stacks of them, the level of intervals and a median, shared by the numerics of the fit.

Shape suffixes in this room: G independent sweeps, K widths, C cells (values of the
hyperparameters), S seeds, P columns of a design or coefficients, T grid points of the scatter.
`loss_GKC` has a loss for each sweep, width and cell. All positions are log2 (octaves).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Index = npt.NDArray[np.intp]
Words = npt.NDArray[np.str_]
Item = TypeVar("Item", bound=np.generic)

LEVEL = 0.95  # of every interval
JITTER = 1e-9  # on the diagonal of normal equations, and under what is divided by


class Stack(Protocol):
    """A dataclass of arrays, each [G, ...]."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


StackT = TypeVar("StackT", bound=Stack)


def arrays_of(stack: Stack) -> Mapping[str, npt.NDArray[Any]]:
    """The arrays of a stack, by name."""
    return {field.name: getattr(stack, field.name) for field in fields(stack)}


def rows(stack: StackT, index_G: Index | Mask) -> StackT:
    """The sweeps of an index."""
    return type(stack)(**{name: values[index_G] for name, values in arrays_of(stack).items()})


def put(stack: StackT, index_G: Index | Mask, others: StackT) -> None:
    """Put other sweeps in the place of those of an index."""
    for name, values in arrays_of(stack).items():
        values[index_G] = getattr(others, name)


def t_quantile(freedom: npt.ArrayLike, level: float = LEVEL) -> Array:
    """Half-width at a level in standard errors, by Student's t."""
    return np.asarray(stats.t.ppf(0.5 + level / 2, freedom))


def nanmedian(values: Array, axis: int) -> Array:
    """np.nanmedian without its warning on slices without numbers, which stay NaN."""
    # mean of the two middle values, which are one where the count is odd
    ordered = np.sort(values, axis=axis)  # NaN last
    count = np.isfinite(values).sum(axis, keepdims=True)
    low, high = np.maximum(count - 1, 0) // 2, np.maximum(count, 1) // 2
    high = np.minimum(high, values.shape[axis] - 1)
    pair = [np.take_along_axis(ordered, index, axis=axis) for index in (low, high)]
    return np.asarray(np.squeeze((pair[0] + pair[1]) / 2, axis=axis))


def padded(
    parts: Sequence[npt.NDArray[Item]], sweeps: int, fill: object, least: tuple[int, ...] = ()
) -> npt.NDArray[Item]:
    """Stack G * K arrays of unequal shape to [G, K, ...], filled up at the end of each axis.

    Args:
        least: smallest size of the leading axes of a part.
    """
    sizes = [max(size) for size in zip(*(part.shape for part in parts), strict=True)]
    sizes = [max(size, *least[axis : axis + 1], 1) for axis, size in enumerate(sizes)]
    kind = np.result_type(*{part.dtype for part in parts})
    found = np.full((len(parts), *sizes), fill, dtype=kind)
    for index, part in enumerate(parts):
        corner: tuple[int | slice, ...] = (index, *map(slice, part.shape))
        found[corner] = part
    return found.reshape(sweeps, -1, *sizes)
