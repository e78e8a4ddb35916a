"""What is seen of a model's forward pass, by hooks on its modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from mutransfer_cli.diagnose.alignment import Product, multiplies

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
