"""Calling a model: on tokens for logits, or on tokens and targets for its loss.

A model that is not built in is run once before training, to find the matrix that makes the output,
the memory that training needs, and the factors that the model's own code applies.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mutransfer_cli.errors import InputError, MutransferError
from mutransfer_cli.proxies.attention import AttentionCalls
from mutransfer_cli.proxies.call import logits_of, loss_of, unusable
from mutransfer_cli.proxies.example import SEQUENCES, Example, takes_targets
from mutransfer_cli.proxies.factory import message_of
from mutransfer_cli.proxies.reading import fan_in_axis

LOSS_COPIES = 4  # of the logits, for the loss and its gradient
PROPORTIONAL = 1e-3  # of the logits: a larger rest means more than a mere factor


def constants(model: nn.Module) -> dict[str, Tensor]:
    """Everything a model reads that is not trained: buffers and frozen parameters."""
    frozen = {name: p.detach() for name, p in model.named_parameters() if not p.requires_grad}
    return dict(model.named_buffers()) | frozen


@dataclass(frozen=True)
class TrialRun:
    """One forward pass of a base model.

    Attributes:
        readout: the matrix whose module was called last; if the model cannot be run on tokens, the
            last in module order. None without any matrix.
        sequence_bytes: bytes that autograd keeps of one sequence; 0 if the model cannot be run.
        why_not: why the model cannot be run on tokens; empty if it can.
        has_loss: whether the model's forward returns the loss without the logits of every token.
        sample_flops: FLOPs of a forward pass of one sample; 0 for tokens.
    """

    readout: str | None = None
    sequence_bytes: float = 0.0
    why_not: str = ""
    has_loss: bool = False
    sample_flops: float = 0.0


def run_once(model: nn.Module, example: Example) -> TrialRun:
    """Run a model with values on an example.

    Raises:
        InputError: the output is neither logits of every token nor a loss, or the samples are not
            what the model needs.
    """
    owners = matrix_owners(model)
    called: list[str] = []
    kept: dict[int, int] = {}  # bytes by address
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    last = next(reversed(owners), None)
    try:
        with ExitStack() as hooks, torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            for name, owner in owners.items():
                handle = owner.register_forward_hook(lambda *_, name=name: called.append(name))
                hooks.callback(handle.remove)
            output = example.run(model) if example.vocab else example.run_for_loss(model)
    except MutransferError:
        raise
    except Exception as error:
        return TrialRun(last, 0.0, f"{type(error).__name__}: {message_of(error)}")
    bytes_, readout = sum(kept.values()), called[-1] if called else last
    if example.vocab is None:
        with FlopCounterMode(display=False) as counter:
            example.run_for_loss(model)
        flops = counter.get_total_flops() / SEQUENCES
        return TrialRun(readout, bytes_ / SEQUENCES, has_loss=True, sample_flops=flops)
    logits, loss = logits_of(output), loss_of(output) if takes_targets(model) else None
    if loss is not None:
        _refuse_other_loss(loss)
    elif logits is None:
        raise unusable(output, "logits")
    else:
        _refuse_other_logits(logits, example)
        bytes_ += LOSS_COPIES * logits.numel() * logits.element_size()
    has_all = logits is not None and _is_of_every_token(logits, example)
    return TrialRun(
        readout,
        bytes_ / SEQUENCES,
        has_loss=loss is not None and not has_all,
    )


def matrix_owners(model: nn.Module) -> dict[str, nn.Module]:
    """The modules that own a matrix of known orientation, by its name, in module order."""
    return {
        f"{path}.{leaf}".removeprefix("."): module
        for path, module in model.named_modules()
        for leaf, parameter in module.named_parameters(recurse=False)
        if parameter.dim() > 1 and fan_in_axis(module, leaf) is not None
    }


def _arguments(model: nn.Module, tokens_BS: Tensor) -> tuple[Tensor, ...]:
    return (tokens_BS, tokens_BS) if takes_targets(model) else (tokens_BS,)


def _refuse_other_loss(loss: Tensor) -> None:
    if loss.numel() != 1 or loss.dim():
        raise InputError(
            f"model: its loss has shape {list(loss.shape)}, expected one number, the mean over "
            "all tokens"
        )


def _is_of_every_token(logits: Tensor, example: Example) -> bool:
    """Whether logits have the shape [batch, context, vocabulary or more]."""
    assert example.vocab is not None, "tokens"
    B, S = example.batch.shape
    shape = tuple(logits.shape)
    return len(shape) == 3 and shape[:2] == (B, S - 1) and shape[2] >= example.vocab


def _refuse_other_logits(logits: Tensor, example: Example) -> None:
    if not _is_of_every_token(logits, example):
        B, S = example.batch.shape
        raise InputError(
            f"model: its logits of {B} x {S - 1} tokens have shape {list(logits.shape)}, expected "
            f"[{B}, {S - 1}, {example.vocab} or more]: batch, context, vocabulary"
        )


@dataclass(frozen=True)
class OwnCode:
    """Factors that a model's own code applies in a forward pass.

    Attributes:
        output_factor: the logits over the product of the readout's weight and its input; None if it
            cannot be determined.
        input_size: root mean square of that input.
        scales: head size and factor on q.k of each call of scaled_dot_product_attention.
    """

    output_factor: float | None
    input_size: float
    scales: frozenset[tuple[int, float]]


def own_code(model: nn.Module, readout: str | None, context: int, vocab: int) -> OwnCode:
    """Measure the factors that a model's own code applies.

    Args:
        model: with values, of a small width.
        readout: name of the matrix that makes the output, if there is one.
    """
    owner = model.get_submodule(readout.rpartition(".")[0]) if readout else None
    inputs: list[Tensor] = []
    generator = torch.Generator().manual_seed(0)
    tokens_BS = torch.randint(vocab, (SEQUENCES, context), generator=generator)
    attention = AttentionCalls(head_size_and_scale)
    try:
        with ExitStack() as hooks, torch.no_grad(), attention:
            if isinstance(owner, nn.Linear):
                handle = owner.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
                hooks.callback(handle.remove)
            output = model(*_arguments(model, tokens_BS))
    except Exception:  # TrialRun.why_not reports models that cannot be run on tokens
        return OwnCode(None, 0.0, frozenset(attention.found))
    factor, size = None, 0.0
    logits = logits_of(output)
    if len(inputs) == 1 and isinstance(owner, nn.Linear) and logits is not None:
        factor = proportion(logits, inputs[0] @ owner.weight.T)
        size = float(inputs[0].square().mean().sqrt())
    return OwnCode(factor, size, frozenset(attention.found))


@torch.no_grad()
def scales_of(model: nn.Module, example: Example) -> frozenset[tuple[int, float]]:
    """Head size and factor on q.k of each call of torch's attention in a forward pass."""
    calls = AttentionCalls(head_size_and_scale)
    with calls:
        example.run(model)
    return frozenset(calls.found)


def head_size_and_scale(query: Tensor, scale: float | None = None, **_: Any) -> tuple[int, float]:
    """The head size of a call of attention and its factor on q.k."""
    head_size = query.shape[-1]
    return head_size, head_size**-0.5 if scale is None else float(scale)


@torch.no_grad()
def makes_queries(model: nn.Module, names: Collection[str], context: int, vocab: int) -> bool:
    """Whether twice the parameters `names` give twice the queries of the first attention and leave
    its keys and values: not if queries are normalised, or share their matrix with keys.

    Args:
        model: with values, of a small width; it is left as it was.
    """
    tokens_BS = torch.arange(SEQUENCES * context).view(SEQUENCES, context) % vocab

    def first_call() -> tuple[Tensor, Tensor, Tensor] | None:
        calls = AttentionCalls(lambda query, key, value, **_: (query, key, value))
        with calls:
            model(*_arguments(model, tokens_BS))
        return calls.found[0] if calls.found else None

    held = [model.get_parameter(name) for name in names]
    before = first_call()
    for parameter in held:
        parameter.mul_(2)
    after = first_call()
    for parameter in held:
        parameter.div_(2)
    if before is None or after is None or not held:
        return False
    wanted = (2 * before[0], before[1], before[2])
    return all(torch.allclose(x, y) for x, y in zip(after, wanted, strict=True))


def proportion(logits: Tensor, product: Tensor) -> float | None:
    """The factor between two tensors [B, S, V] up to a bias; None if they are not proportional."""
    if logits.shape != product.shape:
        return None
    # differences between tokens do not contain the bias
    found, plain = (
        (x.detach().double() - x.detach().double().mean((0, 1))).flatten()
        for x in (logits, product)
    )
    square = float(plain @ plain)
    if not square:
        return None
    factor = float(found @ plain) / square
    rest = float((found - factor * plain).norm())
    return factor if rest <= PROPORTIONAL * float(found.norm()) else None
