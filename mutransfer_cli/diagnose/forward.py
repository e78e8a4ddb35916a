"""A model's forward pass as hooks see it: blocks' outputs, matrix products, attention scores."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mutransfer_cli.proxies.reading import is_transformers_conv1d

CONTAINERS = (nn.ModuleList, nn.Sequential)


@dataclass(frozen=True)
class Product:
    """A product of one trial's forward pass: weight W, input z [..., fan-in], output W z."""

    weight: Tensor
    input: Tensor
    output: Tensor

    @classmethod
    def of(cls, layer: nn.Module, z: Tensor, out: Tensor) -> Product:
        """The product of a module that `multiplies`, from its input and output."""
        weight, bias = layer.weight, layer.bias
        assert isinstance(weight, Tensor), "it multiplies"
        return cls(weight, z, out - bias if isinstance(bias, Tensor) else out)


def multiplies(module: nn.Module) -> bool:
    """Whether a module's output is its weight times its input, plus a bias."""
    return type(module).forward is nn.Linear.forward or is_transformers_conv1d(module)


def log_alignment_ratio(calls: Sequence[Product]) -> Tensor:
    """A = log_fan_in(|W z|_RMS / (|W|_RMS |z|_RMS)) over all calls of a matrix (Everett et al.
    2024, arXiv 2407.05872); in Frobenius norms 1 + log_fan_in(|W z| / (|W| |z|)).

    A is 1/2 if W and z are independent and 1 if every row of W points along z. It takes W z as a
    whole, unlike the exponents alpha, omega and u of the rules, which are about the alignment of
    updates with activations and with their changes. It is not finite if the fan-in is 1.
    """
    fan_in = calls[0].input.shape[-1]
    z, wz = joint_norm([call.input for call in calls]), joint_norm([call.output for call in calls])
    ratio = wz / (joint_norm([calls[0].weight]) * z)
    return 1 + ratio.log() / (math.log(fan_in) or math.nan)


def joint_norm(tensors: Sequence[Tensor]) -> Tensor:
    """Frobenius norm of several tensors together."""
    norms = [torch.linalg.vector_norm(x) for x in tensors]
    total: Tensor = torch.linalg.vector_norm(torch.stack(norms)) if norms[1:] else norms[0]
    return total


@dataclass(frozen=True)
class Places:
    """The places where a model is observed.

    Attributes:
        blocks: modules whose outputs are seen, by name.
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
    """Observations of one forward pass of one trial.

    Attributes:
        outputs: each block's last output.
        products: products of each layer, over all its calls.
    """

    outputs: dict[str, Tensor] = field(default_factory=dict)
    products: dict[str, list[Product]] = field(default_factory=dict)


def blocks(model: nn.Module, path: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The trained elements of lists of modules and, outside lists, the modules that own a trained
    matrix; if such modules are nested, only the outermost one.

    In a decoder these are the embedding, the blocks, whose outputs are the residual stream, and the
    readout.
    """
    for name, child in model.named_children():
        where = f"{path}.{name}" if path else name
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from blocks(child, where)  # it is never called itself
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
    """Observe the model while it runs in this context, under vmap too."""
    seen = Seen()
    with ExitStack() as hooks:
        for name, block in places.blocks.items():
            handle = block.register_forward_hook(partial(_keep_output, seen, name))
            hooks.callback(handle.remove)
        for name, layers in places.layers.items():
            keep = partial(_keep_product, seen, name)
            for layer in layers:
                hooks.callback(layer.register_forward_hook(keep, with_kwargs=True).remove)
        yield seen


def _keep_output(seen: Seen, name: str, block: nn.Module, args: Any, output: Any) -> None:
    first = output[0] if isinstance(output, tuple) else output
    if isinstance(first, Tensor):
        seen.outputs[name] = first


def _keep_product(
    seen: Seen,
    name: str,
    layer: nn.Module,
    args: tuple[Tensor, ...],
    kwargs: dict[str, Tensor],
    output: Tensor,
) -> None:
    (z,) = (*args, *kwargs.values())
    if z.numel():  # an expert may get no token
        seen.products.setdefault(name, []).append(Product.of(layer, z, output))


def attention_scores(query: Tensor, key: Tensor, scale: float | None = None, **_: Any) -> Tensor:
    """q.k times scale times sqrt(d_head) of a call of attention, without masks.

    At init q.k is a sum of d_head independent terms. In training they align, so that the scale must
    be 1/d_head (Yang et al. 2022, arXiv 2203.03466), and this quantity at init does not scale with
    d_head.

    Args:
        query: [..., heads, queries, d_head]
        key: [..., kv heads, keys, d_head]; one kv head may serve several heads.
        scale: factor on q.k; by default 1 / sqrt(d_head).

    Returns:
        [..., heads, queries, keys]
    """
    if key.shape[-3] < query.shape[-3]:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
    found: Tensor = query @ key.mT
    root = math.sqrt(query.shape[-1])
    return found * ((1 / root if scale is None else scale) * root)
