"""How much the inputs of a matrix line up with it.

MERGED:
What is seen of a model's forward pass, by hooks on its modules.
What attention takes the softmax of, seen where torch's own function computes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mutransfer_cli.proxies.reading import is_transformers_conv1d


@dataclass(frozen=True)
class Product:
    """A product of one trial's forward pass: weight W, input z [..., fan-in], output W z."""

    weight: Tensor
    input: Tensor
    output: Tensor

    @classmethod
    def of(cls, layer: nn.Module, z: Tensor, out: Tensor) -> Product:
        """Of a module that `multiplies`, from what went in and came out."""
        weight, bias = layer.weight, layer.bias
        assert isinstance(weight, Tensor), "it multiplies"
        return cls(weight, z, out - bias if isinstance(bias, Tensor) else out)


def multiplies(module: nn.Module) -> bool:
    """Whether its output is its weight times its input, plus a bias."""
    return type(module).forward is nn.Linear.forward or is_transformers_conv1d(module)


def log_alignment_ratio(calls: Sequence[Product]) -> Tensor:
    """A = log_fan_in(|W z|_RMS / (|W|_RMS |z|_RMS)) over all calls of a matrix (Everett et al.
    2024, arXiv 2407.05872); in Frobenius norms 1 + log_fan_in(|W z| / (|W| |z|)).

    1/2 where W and z know nothing of each other, 1 where every row of W points along z. It takes
    W z as a whole: the exponents alpha, omega and u of the rules, which ask how updates line up
    with activations and with their changes, are others. Not finite where the fan-in is 1.
    """
    fan_in = calls[0].input.shape[-1]
    z, wz = joint_norm([call.input for call in calls]), joint_norm([call.output for call in calls])
    ratio = wz / (joint_norm([calls[0].weight]) * z)
    return 1 + ratio.log() / (math.log(fan_in) or math.nan)


def joint_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Of all values of one trial together."""
    norms = [torch.linalg.vector_norm(x) for x in tensors]
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms)) if norms[1:] else norms[0]
    return total


CONTAINERS = (nn.ModuleList, nn.Sequential)


@dataclass(frozen=True)
class Places:
    """Where a model is looked at.

    Attributes:
        blocks: modules by their name, whose outputs are seen.
        layers: modules that multiply, by the name of their trained weight.
    """

    blocks: Mapping[str, nn.Module]
    layers: Mapping[str, list[nn.Module]]

    @classmethod
    def of(cls, model: nn.Module) -> Places:
        names = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
        layers: dict[str, list[nn.Module]] = {}
        for module in model.modules():
            if multiplies(module) and id(module.weight) in names:
                layers.setdefault(names[id(module.weight)], []).append(module)
        return cls(dict(blocks(model)), layers)


@dataclass(frozen=True)
class Seen:
    """Of one forward pass of one trial.

    Attributes:
        outputs: of the blocks, the last where one is called several times.
        products: of the layers, all calls.
    """

    outputs: dict[str, Tensor] = field(default_factory=dict)
    products: dict[str, list[Product]] = field(default_factory=dict)


def blocks(model: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The trained elements of lists and sequences of modules, and outside of such the modules that
    own a trained matrix; of nested ones the outermost. In a decoder these are the embedding, the
    blocks, whose outputs are the residual stream, and the readout."""
    for name, child in model.named_children():
        where = f"{path}.{name}" if path else name
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from blocks(child, where)  # nobody calls it
        elif is_trained(child) if isinstance(model, CONTAINERS) else owns_matrix(child):
            yield where, child
        else:
            yield from blocks(child, where)


def is_trained(module: nn.Module) -> bool:
    return any(p.requires_grad for p in module.parameters())


def owns_matrix(module: nn.Module) -> bool:
    return any(p.requires_grad and p.dim() > 1 for p in module.parameters(recurse=False))


@contextmanager
def watched(places: Places) -> Iterator[Seen]:
    """Fills what it gives while the model runs, under vmap too."""
    seen = Seen()
    with ExitStack() as hooks:
        for name, block in places.blocks.items():
            handle = block.register_forward_hook(_keeps_output(name, seen))
            hooks.callback(handle.remove)
        for name, layers in places.layers.items():
            for layer in layers:
                handle = layer.register_forward_hook(_keeps_product(name, seen), with_kwargs=True)
                hooks.callback(handle.remove)
        yield seen


def _keeps_output(name: str, seen: Seen) -> Callable[..., None]:
    def hook(block: nn.Module, args: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, Tensor):
            seen.outputs[name] = first

    return hook


def _keeps_product(name: str, seen: Seen) -> Callable[..., None]:
    def hook(
        layer: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], output: Tensor
    ) -> None:
        (z,) = (*args, *kwargs.values())
        if z.numel():  # an expert may get no token
            seen.products.setdefault(name, []).append(Product.of(layer, z, output))

    return hook


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
