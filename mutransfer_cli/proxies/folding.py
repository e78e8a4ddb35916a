"""Parameters of a model that can take a factor of its forward pass, seen by changing them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace

import torch
from torch import Tensor, nn

from mutransfer_cli.proxies.call import logits_of
from mutransfer_cli.proxies.example import Example
from mutransfer_cli.rules.plan import BaseParameter


@torch.no_grad()
def before_readout(
    model: nn.Module, vectors: Collection[str], logits: Callable[[], Tensor]
) -> frozenset[str]:
    """Names of gain and bias of the norm directly before the readout; empty where there is none.

    They are those of the module called last among those that own vectors alone, if twice their
    values give logits twice as far from those of values 0, which are a bias, equal for all tokens:
    not if gains count from 1, as Gemma's do, or if the logits are capped.

    Args:
        model: with values, of a small width; it is left as it was.
        vectors: names of its trained vectors.
        logits: runs the model on several tokens, [..., V].
    """
    owners: dict[nn.Module, list[str]] = {}
    for path, module in model.named_modules():
        own = [f"{path}.{leaf}".removeprefix(".") for leaf, _ in module.named_parameters("", False)]
        if own and set(own) <= set(vectors):
            owners[module] = own
    called: list[nn.Module] = []
    with ExitStack() as hooks:
        for owner in owners:
            handle = owner.register_forward_hook(lambda module, *_: called.append(module))
            hooks.callback(handle.remove)
        before = logits()
    if not called:
        return frozenset()
    names = owners[called[-1]]
    held = [model.get_parameter(name) for name in names]
    kept = [parameter.clone() for parameter in held]

    def times(factor: float) -> Tensor:
        for parameter, values in zip(held, kept, strict=True):
            parameter.copy_(factor * values)
        return logits()

    without, twice = times(0.0), times(2.0)
    times(1.0)
    doubled = torch.allclose(twice - without, 2 * (before - without), rtol=1e-4, atol=1e-6)
    rows = without.flatten(0, -2)
    is_bias = torch.allclose(rows, rows[:1].expand_as(rows), rtol=1e-4, atol=1e-6)
    moved = not torch.allclose(twice, before)
    return frozenset(names) if doubled and is_bias and moved else frozenset()


def with_norm(
    plan: Sequence[BaseParameter], model: nn.Module, example: Example
) -> tuple[BaseParameter, ...]:
    """The base plan with the norm before a tied readout marked, where one was seen.

    Args:
        model: with values, at the base width.
        example: what it is run on.
    """
    if not any(p.is_tied_readout for p in plan) or logits_of(example.run(model)) is None:
        return tuple(plan)

    def logits() -> Tensor:
        found = logits_of(example.run(model))
        assert found is not None, "it returned logits before"
        return found

    names = before_readout(model, {p.name for p in plan if p.role == "vector"}, logits)
    return tuple(replace(p, before_readout=True) if p.name in names else p for p in plan)
