"""What a model's own code does in a forward pass: its output factor, its attention scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mutransfer_cli.proxies.call import output_of, takes_targets

SEQUENCES = 2
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
