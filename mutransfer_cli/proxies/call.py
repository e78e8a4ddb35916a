"""How a model is called: on tokens for logits, or on tokens and targets for its loss."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from mutransfer_cli.errors import InputError


def takes_targets(model: nn.Module) -> bool:
    """Whether its forward cannot do without a second argument."""
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [
        parameter
        for parameter in inspect.signature(model.forward).parameters.values()
        if parameter.kind in positional and parameter.default is inspect.Parameter.empty
    ]
    return len(needed) > 1


def constants(model: nn.Module) -> dict[str, Tensor]:
    """What a model reads and nobody trains: buffers and frozen parameters."""
    frozen = {name: p.detach() for name, p in model.named_parameters() if not p.requires_grad}
    return dict(model.named_buffers()) | frozen


def output_of(output: Any, attribute: str) -> Tensor:
    """The tensor itself, or that which an output object holds.

    Raises:
        InputError: neither.
    """
    found = output if isinstance(output, Tensor) else getattr(output, attribute, None)
    if not isinstance(found, Tensor):
        raise InputError(
            f"model: forward returned {type(output).__name__}, expected a tensor or an object "
            f"with .{attribute}"
        )
    return found


def call(
    model: nn.Module, values: Mapping[str, Tensor], tokens_BS: Tensor, targets_BS: Tensor | None
) -> Tensor:
    """Logits [B, S, V]; with targets the loss.

    Args:
        values: of every parameter and buffer.
    """
    args = (tokens_BS,) if targets_BS is None else (tokens_BS, targets_BS)
    output = functional_call(model, dict(values), args, strict=True)
    return output_of(output, "logits" if targets_BS is None else "loss")
