"""One forward pass of a base model: what makes its output, and what training it will keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.call import output_of, takes_targets
from mutransfer_cli.proxies.orientation import fan_in_axis

SEQUENCES = 2  # one would hide a lost axis
LOSS_COPIES = 4  # of the logits, for the loss and its gradient


@dataclass(frozen=True)
class TrialRun:
    """
    Attributes:
        readout: the last matrix module that was called; of a model that cannot be run on tokens
            the last in module order. None where there is no matrix.
        sequence_bytes: what autograd keeps of one sequence; 0 where it cannot be run.
        why_not: why it cannot be run on tokens; empty where it can.
        has_loss: whether its forward gives the loss.
    """

    readout: str | None
    sequence_bytes: float
    why_not: str = ""
    has_loss: bool = False


def run_once(model: nn.Module, context: int, vocab: int) -> TrialRun:
    """
    Raises:
        InputError: an output that is neither logits of every token nor a loss.
    """
    owners = matrix_owners(model)
    called: list[str] = []
    hooks = [
        owner.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, owner in owners.items()
    ]
    tokens_BS = torch.arange(SEQUENCES * context).view(SEQUENCES, context) % vocab
    kept: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    args = (tokens_BS, tokens_BS) if takes_targets(model) else (tokens_BS,)
    last = next(reversed(owners), None)
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            output = model(*args)
    except Exception as error:
        problem = (str(error).splitlines() or [""])[0]
        return TrialRun(last, 0.0, f"{type(error).__name__}: {problem}")
    finally:
        for hook in hooks:
            hook.remove()
    has_loss = len(args) > 1
    of_loss = refuse_other_output(output, has_loss, tokens_BS, vocab)
    bytes_ = sum(kept.values()) + LOSS_COPIES * of_loss
    return TrialRun(called[-1] if called else last, bytes_ / SEQUENCES, has_loss=has_loss)


def matrix_owners(model: nn.Module) -> dict[str, nn.Module]:
    """Modules that own a matrix of known orientation, by its name, in module order."""
    return {
        f"{path}.{leaf}".removeprefix("."): module
        for path, module in model.named_modules()
        for leaf, parameter in module.named_parameters(recurse=False)
        if parameter.dim() > 1 and fan_in_axis(module, leaf) is not None
    }


def refuse_other_output(output: Any, has_loss: bool, tokens_BS: Tensor, vocab: int) -> int:
    """Bytes of the logits."""
    if has_loss:
        loss = output_of(output, "loss")
        if loss.numel() != 1 or loss.dim():
            raise InputError(
                f"model: its loss has shape {list(loss.shape)}, expected one number, the mean over "
                "all tokens"
            )
        return 0
    logits = output_of(output, "logits")
    shape = tuple(logits.shape)
    if len(shape) != 3 or shape[:2] != tuple(tokens_BS.shape) or shape[2] < vocab:
        B, S = tokens_BS.shape
        raise InputError(
            f"model: its logits of {B} x {S} tokens have shape {list(shape)}, expected "
            f"[{B}, {S}, {vocab} or more]: batch, context, vocabulary"
        )
    return logits.numel() * logits.element_size()
