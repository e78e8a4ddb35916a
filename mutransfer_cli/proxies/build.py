"""From a protocol to modules and to the base plan."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.files.records import ModelProtocol
from mutransfer_cli.proxies.transformer import Transformer
from mutransfer_cli.rules.plan import BaseParameter
from mutransfer_cli.rules.roles import role_of

FAN_IN_AXIS: dict[type[nn.Module], int] = {nn.Linear: 1, nn.Embedding: 0}


def build_proxy(model: ModelProtocol, context: int, width: int) -> Transformer:
    """The protocol's model at a width; its values are replaced by those of a plan."""
    return Transformer(
        width=width,
        depth=model.depth,
        head_size=model.head_size,
        vocab=model.vocab,
        context=context,
        attention_scale=model.attention_factor,
    )


def base_plan(model: ModelProtocol, context: int, base_width: int) -> tuple[BaseParameter, ...]:
    """Every parameter of the protocol's model at the base width, with role and init std."""
    return read_base_plan(lambda width: build_proxy(model, context, width), base_width)


def read_base_plan(
    build: Callable[[int], Transformer], base_width: int
) -> tuple[BaseParameter, ...]:
    """Roles from the axes that grow between two widths, on the meta device.

    Raises:
        InputError: a parameter in a module of a type whose orientation is not known, or one under
            two names (tied), which cannot follow two rules.
    """
    with torch.device("meta"):
        base, wider = build(base_width), build(2 * base_width)
    wide_shapes = {n: p.shape for n, p in wider.named_parameters(remove_duplicate=False)}
    init_stds = base.init_stds()
    found: list[BaseParameter] = []
    names: dict[nn.Parameter, str] = {}
    for name, parameter in base.named_parameters(remove_duplicate=False):
        if not parameter.requires_grad:
            continue
        if parameter in names:
            raise InputError(
                f"{name} and {names[parameter]} are one tied parameter; untie them: the rules "
                "treat them differently"
            )
        names[parameter] = name
        shape = tuple(parameter.shape)
        growing = tuple(axis for axis, size in enumerate(shape) if size != wide_shapes[name][axis])
        owner = base.get_submodule(name.rpartition(".")[0])
        if len(shape) > 1 and type(owner) not in FAN_IN_AXIS:
            raise InputError(f"{name}: {type(owner).__name__} has no known orientation")
        fan_in_axis = FAN_IN_AXIS[type(owner)] if len(shape) > 1 else None
        role = role_of(name, growing, fan_in_axis, is_readout=owner is base.readout)
        found.append(BaseParameter(name, role, shape, growing, init_stds[name]))
    return tuple(found)
