"""How a model is called: on tokens for logits, or on tokens and targets for its loss.

MERGED:
One forward pass of a base model: what makes its output, and what training it will keep.
What a model's own code does in a forward pass: its output factor, its attention scale."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.reading import fan_in_axis


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


PROPORTIONAL = 1e-3  # of the logits: more is no mere factor


@dataclass(frozen=True)
class OwnCode:
    """
    Attributes:
        output_factor: of the logits over what the readout's weight makes of its input; None where
            it cannot be told.
        input_size: root mean square of that input.
        scales: head size and factor on q.k of each call of scaled_dot_product_attention.
    """

    output_factor: float | None
    input_size: float
    scales: frozenset[tuple[int, float]]


class _Attention(TorchFunctionMode):
    """Notes the scale of every call of torch's attention."""

    def __init__(self) -> None:
        super().__init__()
        self.scales: set[tuple[int, float]] = set()

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            query: Tensor = args[0] if args else kwargs["query"]
            head_size, scale = query.shape[-1], kwargs.get("scale")
            self.scales.add((head_size, head_size**-0.5 if scale is None else float(scale)))
        return func(*args, **kwargs)


def own_code(model: nn.Module, readout: str | None, context: int, vocab: int) -> OwnCode:
    """
    Args:
        model: with values, of a small width.
        readout: name of the matrix that makes the output; None where there is none.
    """
    owner = model.get_submodule(readout.rpartition(".")[0]) if readout else None
    inputs: list[Tensor] = []
    hooks: list[Any] = []
    if isinstance(owner, nn.Linear):
        hooks = [owner.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))]
    generator = torch.Generator().manual_seed(0)
    tokens_BS = torch.randint(vocab, (SEQUENCES, context), generator=generator)
    attention = _Attention()
    try:
        with torch.no_grad(), attention:
            output = model(tokens_BS, tokens_BS) if takes_targets(model) else model(tokens_BS)
    except Exception:  # models that cannot be run on tokens are said elsewhere (TrialRun.why_not)
        return OwnCode(None, 0.0, frozenset(attention.scales))
    finally:
        for hook in hooks:
            hook.remove()
    factor, size = None, 0.0
    if len(inputs) == 1 and isinstance(owner, nn.Linear) and not takes_targets(model):
        factor = _factor(output_of(output, "logits"), inputs[0] @ owner.weight.T)
        size = float(inputs[0].square().mean().sqrt())
    return OwnCode(factor, size, frozenset(attention.scales))


def _factor(logits: Tensor, product: Tensor) -> float | None:
    """Of differences between tokens, in which a bias is not seen."""
    if logits.shape != product.shape:
        return None
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
