"""Causal attention of Hugging Face models without a mask.

How transformers masks depends on who calls: eager code, torch.compile and the capture of a CUDA
graph take different ways, and a mask that was made under vmap has a wrong shape in torch's
attention. It makes no mask for an attention that it knows no mask of, such as the one named here:
its own call of torch's attention, which is causal where it is given no mask.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

UNMASKED = "mutransfer_unmasked"
TORCHS = "sdpa"  # transformers' name of torch's attention

Call = dict[Any, Any]  # arguments by their place or name


class _Calls(TorchFunctionMode):
    """Notes how torch's attention is called: shapes of tensors, all else as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[Call] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            given = [*enumerate(args), *kwargs.items()]
            self.noted.append({key: x.shape if isinstance(x, Tensor) else x for key, x in given})
        return func(*args, **kwargs)


def drop_masks(transformers: Any, model: Any, context: int) -> None:
    """Has a model attend without masks, if it then calls torch's attention exactly as before.

    Any other keeps what transformers chose: written-out attention, windows, sinks, biases.

    Args:
        model: with values; its attention is set in place.
        context: longest sequence, on which the calls are compared.
    """
    if model.config._attn_implementation != TORCHS:
        return
    before = calls(model, context)
    if not before or any(call.get("attn_mask", call.get(3)) is not None for call in before):
        return
    interface = transformers.AttentionInterface
    interface.register(UNMASKED, interface()[TORCHS])
    model.set_attn_implementation(UNMASKED)
    if calls(model, context) != before:
        model.set_attn_implementation(TORCHS)


def calls(model: Any, context: int) -> list[Call]:
    """Calls of torch's attention in one forward pass; none if the model cannot be run on tokens."""
    tokens_BS = torch.arange(context).view(1, context) % model.config.vocab_size
    found = _Calls()
    try:
        with torch.no_grad(), found:
            model(tokens_BS)
    except Exception:  # said elsewhere (TrialRun.why_not)
        return []
    return found.noted
