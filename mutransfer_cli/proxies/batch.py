"""A batch: a tensor, or a dict or tuple of batches, nested as the data are.

All tensors of a batch share their leading dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Batch = Any  # Tensor | dict[str, Batch] | tuple[Batch, ...]


def mapped(function: Callable[..., Any], batch: Any, *others: Any) -> Any:
    """The same structure with `function` applied to each leaf, and to those of the others."""
    if isinstance(batch, dict):
        return {
            key: mapped(function, item, *(o[key] for o in others)) for key, item in batch.items()
        }
    if isinstance(batch, tuple):
        items = [mapped(function, *each) for each in zip(batch, *others, strict=True)]
        return type(batch)(*items) if hasattr(batch, "_fields") else tuple(items)
    return function(batch, *others)


def leaves(batch: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves in order, each with its place, as in `inputs.0`; empty for a batch of one."""
    if not isinstance(batch, dict | tuple):
        yield path, batch
        return
    for key, item in batch.items() if isinstance(batch, dict) else enumerate(batch):
        yield from leaves(item, f"{path}.{key}" if path else str(key))
