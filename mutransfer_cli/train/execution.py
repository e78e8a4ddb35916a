"""How the steps of a width are executed, which changes their speed but not what they compute.

This module decides what a model allows, and whether compiling it pays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction
from torch.func import vmap

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.batch import Batch, leaves, mapped
from mutransfer_cli.proxies.calling import constants
from mutransfer_cli.proxies.example import Example, call_of
from mutransfer_cli.proxies.factory import message_of, user_line
from mutransfer_cli.torch_private import batch_cpu_attention, cache_folder, without_recomputation
from mutransfer_cli.train.device import is_out_of_memory

REGISTERED = "GeneratedBackwardFor_"  # torch.library's prefix for a custom operator's backward
# compile times of depth 2 on one CPU core, without and with torch's cache; a first guess for CUDA
COLD_SECONDS, WARM_SECONDS = 67.0, 6.0
SAVED = 0.5  # share of an eager step in a CUDA graph: assumed, half of its bytes at small widths


@dataclass(frozen=True)
class Execution:
    """How steps are executed.

    Attributes:
        compiled: losses and update go through torch.compile.
        captured: the whole step is replayed from one CUDA graph.
        batched: one vmap computes the losses of all trials; otherwise one trial after the other.
    """

    compiled: bool
    captured: bool
    batched: bool = True


EAGER = Execution(compiled=False, captured=False)


def allowed(model: nn.Module, example: Example, wanted: Execution) -> tuple[Execution, str]:
    """The part of `wanted` that is right for this model, and why not all of it (otherwise empty).

    A model with an autograd.Function stays eager: compiled under vmap, the function silently loses
    its own backward or is refused (torch 2.13). A model that vmap cannot batch (it branches on
    values or changes state in place) is trained one trial after the other.

    Raises:
        InputError: the model draws random numbers, so that no trial could be repeated.
    """
    without_recomputation()
    call, batch = call_of(model, example), example.noisy(model)
    if all(x.device.type == "cpu" for _, x in leaves(batch)):
        batch_cpu_attention()
    fixed = {name: value.clone() for name, value in constants(model).items()}

    def loss(params: Mapping[str, Tensor], batch: Batch) -> Tensor:
        return call.loss(model, {**params, **fixed}, batch)

    params = {name: p for name, p in model.named_parameters() if p.requires_grad}
    function = custom_function(loss(params, batch))
    stacks = {name: torch.stack([value, value]) for name, value in params.items()}
    try:
        vmap(loss)(stacks, mapped(lambda x: torch.stack([x, x]), batch))
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        reason = not_batched(error)
        if "random" in reason:
            raise InputError(
                "the model draws random numbers in its forward pass (dropout?), so that no trial "
                f"could be repeated; turn that off ({reason})"
            ) from error
        one_by_one = Execution(compiled=False, captured=False, batched=False)
        return one_by_one, f"the model cannot be batched ({reason}): one trial after the other"
    if call.asks and wanted.compiled:
        return replace(wanted, compiled=False), "the model asks for random numbers: not compiled"
    if function and wanted.compiled:
        return (
            replace(wanted, compiled=False),
            f"the model holds {function}, an autograd.Function, whose compiled form is known to be "
            "wrong: not compiled",
        )
    return wanted, ""


def not_batched(error: RuntimeError) -> str:
    """The reason for which vmap cannot batch a model, and the line of the user's code."""
    if "data-dependent control flow" in str(error):
        return f"it branches on values at {user_line(error) or 'a line of a library'}"
    return re.sub(r" Please file an issue [^(]*", " ", message_of(error)).strip()


def custom_function(out: Tensor) -> str:
    """The name of an autograd.Function in the graph behind `out`; empty if there is none."""
    seen, ahead = set(), [out.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        name = type(node).__name__
        if isinstance(node, BackwardCFunction) and not name.startswith(REGISTERED):
            return name.removesuffix("Backward")
        ahead += [parent for parent, _ in node.next_functions]
    return ""


def pays(eager_seconds: float, key: str) -> bool:
    """Whether compiling saves more time than it takes.

    Args:
        eager_seconds: predicted time of the training without compilation.
        key: identifies the code to compile, which an earlier run may have compiled here.
    """
    takes = WARM_SECONDS if _marker(key).exists() else COLD_SECONDS
    return SAVED * eager_seconds > takes


def remember(key: str) -> None:
    """Record that torch's cache now holds the compiled code."""
    marker = _marker(key)
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()


def _marker(key: str) -> Path:
    return cache_folder() / "compiled" / key
