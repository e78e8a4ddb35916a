"""What attention takes the softmax of, seen where torch's own function computes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class SeesScores(TorchFunctionMode):
    """While it is in force keeps q.k times scale times sqrt(d_head) of every call of
    scaled_dot_product_attention, masks left out; under vmap too. Attention that a model computes
    itself is not seen.

    At init q.k is a sum of d_head independent terms. Trained they line up, so that the scale has to
    be as 1/d_head (Yang et al. 2022, arXiv 2203.03466), and what is kept at init does not go with
    d_head.

    Attributes:
        scores: [..., heads, queries, keys], in the order of the calls.
    """

    def __init__(self) -> None:
        super().__init__()
        self.scores: list[Tensor] = []

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if function is F.scaled_dot_product_attention:
            given = dict(zip(("query", "key"), args, strict=False)) | named
            self.scores.append(scores(given["query"], given["key"], named.get("scale")))
        return function(*args, **named)


def scores(query: Tensor, key: Tensor, scale: float | None) -> Tensor:
    """One key's head may serve several of queries. The scale is 1 / sqrt(d_head) unless given."""
    if key.shape[-3] < query.shape[-3]:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    found: Tensor = query @ key.mT
    root = math.sqrt(query.shape[-1])
    return found * ((1 / root if scale is None else scale) * root)
