"""From a protocol to modules and to the base plan."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from mutransfer_cli.files.records import Protocol
from mutransfer_cli.proxies.transformer import Transformer
from mutransfer_cli.rules.plan import BaseParameter
from mutransfer_cli.rules.roles import role_of

FAN_IN_AXIS: dict[type[nn.Module], int] = {nn.Linear: 1, nn.Embedding: 0}


def build_proxy(protocol: Protocol, width: int) -> Transformer:
    """The protocol's model at a width; its values are replaced by those of a plan."""
    return Transformer(
        width=width,
        depth=protocol.model.depth,
        head_size=protocol.model.head_size,
        vocab=protocol.model.vocab,
        context=protocol.train.context,
        attention_scale=protocol.attention_scale,
    )


def base_plan(protocol: Protocol) -> tuple[BaseParameter, ...]:
    """Every parameter of the protocol's model at the base width, with role and init std."""
    return read_base_plan(
        lambda width: build_proxy(protocol, width), protocol.parameterization.base_width
    )


def read_base_plan(
    build: Callable[[int], Transformer], base_width: int
) -> tuple[BaseParameter, ...]:
    """Roles from the axes that grow between two widths, on the meta device.

    Raises:
        ValueError: a parameter in a module of a type whose orientation is not known.
    """
    with torch.device("meta"):
        base, wider = build(base_width), build(2 * base_width)
    wide_shapes = {name: parameter.shape for name, parameter in wider.named_parameters()}
    init_stds = base.init_stds()
    found = []
    for name, parameter in base.named_parameters():
        shape = tuple(parameter.shape)
        growing = tuple(axis for axis, size in enumerate(shape) if size != wide_shapes[name][axis])
        owner = base.get_submodule(name.rpartition(".")[0])
        if len(shape) > 1 and type(owner) not in FAN_IN_AXIS:
            raise ValueError(f"{name}: {type(owner).__name__} has no known orientation")
        fan_in_axis = FAN_IN_AXIS[type(owner)] if len(shape) > 1 else None
        role = role_of(name, growing, fan_in_axis, is_readout=owner is base.readout)
        found.append(BaseParameter(name, role, shape, growing, init_stds[name]))
    return tuple(found)
