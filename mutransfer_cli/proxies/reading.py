"""The base plan read off two models: roles from the axes that grow and the owner's orientation."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.init import Init, Note, silent
from mutransfer_cli.proxies.orientation import fan_in_axis, is_depthwise
from mutransfer_cli.rules.plan import BaseParameter
from mutransfer_cli.rules.roles import Role, role_of

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Weight:
    """A parameter under one of its names, at the base width and at another.

    Attributes:
        fan_in_axis: None where the owner's type says nothing, or where it is no matrix.
        depthwise: of a convolution whose channels see themselves alone.
    """

    name: str
    shape: Shape
    wide_shape: Shape
    fan_in_axis: int | None
    owner: nn.Module
    depthwise: bool

    @property
    def growing_axes(self) -> tuple[int, ...]:
        pairs = enumerate(zip(self.shape, self.wide_shape, strict=True))
        return tuple(axis for axis, (size, wide) in pairs if size != wide)

    @property
    def is_matrix(self) -> bool:
        """Has more than one axis of more than one value."""
        return sum(size > 1 for size in self.wide_shape) > 1 and len(self.shape) > 1

    def role(self, is_readout: bool) -> Role:
        """
        Raises:
            InputError: shapes alone do not say which.
        """
        growing = self.growing_axes
        if is_readout:
            fan_out = [axis for axis in growing if axis != self.fan_in_axis]
            if fan_out:
                raise InputError(
                    f"{self.name} makes the output and its fan-out grows with width "
                    f"({shown(self.shape)} and {shown(self.wide_shape)}); where the logits are "
                    "made elsewhere, say by which parameter: model.roles {name: readout}"
                )
        # a readout of one value is one still
        if not is_readout and (self.depthwise or not self.is_matrix):
            return "vector" if growing else "scalar"
        unknown = self.fan_in_axis is None and len(growing) not in (0, 2)
        if unknown:
            raise InputError(
                f"{self.name}: {shown(self.shape)} at one width and {shown(self.wide_shape)} at "
                f"another do not say its role, and {type(self.owner).__name__} has no known "
                "orientation; give it in model.roles, as {name: hidden}"
            )
        if self.fan_in_axis is None:
            return "hidden" if growing else "scalar"
        return role_of(self.name, growing, self.fan_in_axis, is_readout)


def read_weights(base: nn.Module, wider: nn.Module) -> list[list[Weight]]:
    """Every trainable parameter once, in the order of the module, under all its names.

    Raises:
        InputError: two models that are not one model at two widths, or that do not grow.
    """
    refuse_other_names(base, wider)
    wide_shapes = {n: tuple(p.shape) for n, p in wider.named_parameters(remove_duplicate=False)}
    found: dict[nn.Parameter, list[Weight]] = {}
    for name, parameter in base.named_parameters(remove_duplicate=False):
        if not parameter.requires_grad:
            continue
        path, _, leaf = name.rpartition(".")
        owner, shape, wide = base.get_submodule(path), tuple(parameter.shape), wide_shapes[name]
        if len(shape) != len(wide):
            raise InputError(
                f"{name}: is {shown(shape)} at the base width and {shown(wide)} at another; "
                "width may change sizes only"
            )
        axis = fan_in_axis(owner, leaf) if len(shape) > 1 else None
        depthwise = axis is not None and is_depthwise(owner, wider.get_submodule(path))
        weight = Weight(name, shape, wide, axis, owner, depthwise)
        found.setdefault(parameter, []).append(weight)
    weights = list(found.values())
    if not weights:
        raise InputError("the model has no trainable parameters")
    if not any(names[0].growing_axes for names in weights):
        first = weights[0][0]
        raise InputError(
            f"the model does not grow: {first.name} is {shown(first.shape)} at the base width and "
            "at another, and so is every other parameter as it was"
        )
    return weights


def refuse_other_names(base: nn.Module, wider: nn.Module) -> None:
    there, here = (
        {name for name, _ in model.named_parameters(remove_duplicate=False)}
        for model in (base, wider)
    )
    if there != here:
        names = ", ".join(sorted(there ^ here)[:3])
        raise InputError(
            f"the model at the base width and at another hold different parameters ({names}); "
            "width may change sizes only"
        )


def assign_roles(
    weights: list[list[Weight]],
    readout: str | None,
    inits: Mapping[str, Init],
    declared: Mapping[str, Role],
    note: Note = silent,
) -> tuple[BaseParameter, ...]:
    """The base plan.

    Args:
        readout: a name of the matrix that makes the output.
        declared: roles by a pattern of the whole name.

    Raises:
        InputError: a role that is ambiguous, weights tied across roles without a declared one, a
            pattern that names nothing.
    """
    roles = declared_roles(weights, declared)
    plan = []
    for names in weights:
        weight = names[0]
        role = roles.get(weight.name)
        if role is None:
            role = role_of_all(names, readout)
        else:
            note(f"{weight.name}: {role}, as model.roles says")
            note_tied(names, role, note)
        init = inits[weight.name]
        axis = weight.fan_in_axis if weight.is_matrix and not weight.depthwise else None
        plan.append(
            BaseParameter(
                weight.name, role, weight.shape, weight.growing_axes, init.std, init.mean, axis
            )
        )
    return tuple(plan)


def role_of_all(names: list[Weight], readout: str | None) -> Role:
    """A layer that is used twice has one role; an embedding that is the readout too has none."""
    first = names[0]
    role = first.role(is_readout=first.name == readout)
    for other in names[1:]:
        if other.role(is_readout=other.name == readout) != role:
            raise InputError(
                f"{other.name} and {first.name} are one tied parameter; untie them: the rules "
                f"treat them differently (or give model.roles {{{first.name}: embedding}}, which "
                "leaves the output multiplier to the model's own code)"
            )
    return role


def note_tied(names: list[Weight], role: Role, note: Note) -> None:
    if len(names) == 1:
        return
    first, other = names[0].name, names[1].name
    if role == "readout":
        raise InputError(
            f"model.roles: {first} is tied to {other}: the rules of a readout do not apply to it; "
            "give embedding, or untie them"
        )
    note(
        f"{first} is also {other}: trained as {role}; the output multiplier is left to the model's "
        "own code"
    )


def declared_roles(weights: list[list[Weight]], declared: Mapping[str, Role]) -> dict[str, Role]:
    """By first name."""
    roles: dict[str, Role] = {}
    for pattern, role in declared.items():
        matched = [
            names[0].name
            for names in weights
            if any(re.fullmatch(pattern, weight.name) for weight in names)
        ]
        if not matched:
            raise InputError(f"model.roles: {pattern!r} is the whole name of no parameter")
        for name in matched:
            if roles.setdefault(name, role) != role:
                raise InputError(
                    f"model.roles: {name} is {roles[name]} by one pattern and {role} by {pattern!r}"
                )
    return roles


def shown(shape: Shape) -> str:
    return " x ".join(map(str, shape)) or "a number"
