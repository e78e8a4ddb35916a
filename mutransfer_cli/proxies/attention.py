"""The observer of attention: every call of torch's own function in a model's forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

POSITIONAL = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")

Found = TypeVar("Found")


class AttentionCalls(TorchFunctionMode, Generic[Found]):
    """While it is in force, measures every call of scaled_dot_product_attention, under vmap too.

    Attention that a model computes itself is not seen.

    Args:
        measure: receives, by name, the arguments that a call gives.

    Attributes:
        found: what `measure` returned, in the order of the calls.
    """

    def __init__(self, measure: Callable[..., Found]) -> None:
        super().__init__()
        self.measure = measure
        self.found: list[Found] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            named = dict(zip(POSITIONAL, args, strict=False)) | kwargs
            self.found.append(self.measure(**named))
        return func(*args, **kwargs)
