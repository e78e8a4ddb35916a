"""The base plan read off a model at two widths: the role and the init of every parameter.

A role follows from the axes that grow with width and from the axis that is a weight's input, which
the type of the owning module tells. The init is what the model's own code drew: a constant, or the
std of normal values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.rules.choices import Role, role_of
from mutransfer_cli.rules.plan import BaseParameter

Note = Callable[[str], None]
Shape = tuple[int, ...]

FEW = 64  # number of values that mostly suffice to see that not all are equal
SMALL = 0.1  # a mean below this share of the values' size is small
SURE = 5  # a difference of fewer standard errors is chance

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
FAN_IN_AXIS: tuple[tuple[tuple[type[nn.Module], ...], int], ...] = (
    ((nn.Linear, *CONVOLUTIONS), 1),
    ((nn.Embedding, nn.EmbeddingBag, *TRANSPOSED), 0),
)


def fan_in_axis(owner: nn.Module, leaf: str) -> int | None:
    """The input axis of the parameter `leaf` of `owner`; None if the owner's type does not tell."""
    if leaf == "weight":
        for types, axis in FAN_IN_AXIS:
            if isinstance(owner, types):
                return axis
        if is_transformers_conv1d(owner):
            return 0
    if isinstance(owner, nn.MultiheadAttention) and leaf.endswith("proj_weight"):
        return 1
    if isinstance(owner, RECURRENT) and leaf.startswith("weight_"):
        return 1
    return None


def is_transformers_conv1d(owner: nn.Module) -> bool:
    """Whether a module is GPT-2's linear layer, whose weight is the transpose of nn.Linear's."""
    kind = type(owner)
    return kind.__name__ == "Conv1D" and kind.__module__ == "transformers.pytorch_utils"


def is_depthwise(owner: nn.Module, wider: nn.Module) -> bool:
    """Whether a convolution's groups grow: each channel then sees only itself, as with a gain."""
    kinds = CONVOLUTIONS + TRANSPOSED
    if not isinstance(owner, kinds) or not isinstance(wider, kinds):
        return False
    same = owner.in_channels // owner.groups == wider.in_channels // wider.groups
    return owner.groups != wider.groups and same


def silent(sentence: str) -> None:
    """Ignore a note."""


@dataclass(frozen=True)
class Init:
    """Mean and std of one parameter's first values at the base width."""

    mean: float
    std: float


@dataclass(frozen=True)
class Drawn:
    """Number, mean and std of a parameter's values."""

    count: int
    mean: float
    std: float

    @classmethod
    def of(cls, values: Tensor) -> Drawn:
        found = values.detach().flatten()
        if not len(found) or bool((found[:FEW] == found[0]).all() and (found == found[0]).all()):
            return cls(len(found), float(found[0]) if len(found) else 0.0, 0.0)
        # the norm is many times faster than torch.std_mean, and means of weights are near 0
        mean = float(found.mean())
        rest = found if abs(mean) < SMALL * float(found[:FEW].abs().max()) else found - mean
        square = float(torch.linalg.vector_norm(rest)) ** 2 / len(found)
        return cls(len(found), mean, math.sqrt(square - mean**2 if rest is found else square))

    @property
    def has_mean(self) -> bool:
        """Whether the mean is further from 0 than chance."""
        return abs(self.mean) > SURE * self.std / math.sqrt(self.count)


def read_inits(model: nn.Module, note: Note = silent) -> dict[str, Init]:
    """The init of every parameter: a constant, or normal values of its std.

    A vector, such as gains, keeps a mean that is more than chance; a matrix is drawn around 0. The
    same parameter of several blocks gets one init if the blocks differ by no more than chance.
    """
    found = {name: Drawn.of(parameter) for name, parameter in model.named_parameters()}
    inits = {name: Init(drawn.mean, 0.0) for name, drawn in found.items() if not drawn.std}
    alike: dict[tuple[str, int], list[str]] = {}
    for name, drawn in found.items():
        if drawn.std:
            in_any_block = ".".join("#" if part.isdigit() else part for part in name.split("."))
            alike.setdefault((in_any_block, drawn.count), []).append(name)
    for names in alike.values():
        pooled = common([found[name] for name in names])
        for name in names:
            drawn = pooled or found[name]
            is_vector = sum(size > 1 for size in model.get_parameter(name).shape) < 2
            inits[name] = Init(drawn.mean if drawn.has_mean and is_vector else 0.0, drawn.std)
            if found[name].has_mean and not is_vector:
                note(
                    f"{name}: its own init has mean {found[name].mean:.3g} and std "
                    f"{found[name].std:.3g}; it gets normal values of that std around 0"
                )
    return inits


def common(drawn: Sequence[Drawn]) -> Drawn | None:
    """All values taken together; None if their stds or means differ by more than chance."""
    count = drawn[0].count
    std = math.sqrt(sum(d.std**2 for d in drawn) / len(drawn))
    mean = sum(d.mean for d in drawn) / len(drawn)
    chance = SURE * std / math.sqrt(count)
    alike = all(
        abs(d.std - std) <= chance / math.sqrt(2) and abs(d.mean - mean) <= chance for d in drawn
    )
    return Drawn(count * len(drawn), mean, std) if alike else None


@dataclass(frozen=True)
class Weight:
    """A parameter under one of its names, at the base width and at another.

    Attributes:
        fan_in_axis: its input axis; None if the owner's type does not tell, or if it is no matrix.
        depthwise: whether each channel of the convolution sees only itself.
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
        """Whether more than one axis has more than one value."""
        return sum(size > 1 for size in self.wide_shape) > 1 and len(self.shape) > 1

    def at_base(self, role: Role, init: Init) -> BaseParameter:
        """The parameter of the base plan."""
        axis = self.fan_in_axis if self.is_matrix and not self.depthwise else None
        return BaseParameter(
            self.name, role, self.shape, self.growing_axes, init.std, init.mean, axis
        )

    def role(self, is_readout: bool) -> Role:
        """The role: what width does to the parameter.

        Raises:
            InputError: the shapes do not tell.
        """
        growing = self.growing_axes
        if is_readout and set(growing) - {self.fan_in_axis}:
            raise InputError(
                f"{self.name} makes the output and its fan-out grows with width "
                f"({shown(self.shape)} and {shown(self.wide_shape)}); if another parameter makes "
                "the logits, name it: model.roles {name: readout}"
            )
        # a readout of one value is still a readout
        if not is_readout and (self.depthwise or not self.is_matrix):
            return "vector" if growing else "scalar"
        if self.fan_in_axis is not None:
            return role_of(self.name, growing, self.fan_in_axis, is_readout)
        if len(growing) not in (0, 2):
            raise InputError(
                f"{self.name}: {shown(self.shape)} at one width and {shown(self.wide_shape)} at "
                f"another do not say its role, and {type(self.owner).__name__} has no known "
                "orientation; give it in model.roles, as {name: hidden}"
            )
        return "hidden" if growing else "scalar"


def read_weights(base: nn.Module, wider: nn.Module) -> list[list[Weight]]:
    """Every trainable parameter once, in the order of the module, under all its names.

    Raises:
        InputError: the modules are not one model at two widths, or the model does not grow.
    """
    shapes, wide_shapes = (
        {name: tuple(p.shape) for name, p in model.named_parameters(remove_duplicate=False)}
        for model in (base, wider)
    )
    if others := sorted(shapes.keys() ^ wide_shapes.keys()):
        raise InputError(
            "the model at the base width and at another hold different parameters "
            f"({', '.join(others[:3])}); width may change sizes only"
        )
    found: dict[nn.Parameter, list[Weight]] = {}
    for name, parameter in base.named_parameters(remove_duplicate=False):
        if not parameter.requires_grad:
            continue
        path, _, leaf = name.rpartition(".")
        owner, shape, wide = base.get_submodule(path), shapes[name], wide_shapes[name]
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
            "at another, and every other parameter keeps its shape too"
        )
    return weights


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
        declared: roles by patterns that match the whole name.

    Raises:
        InputError: a role is ambiguous, weights are tied across roles without a declared one, or a
            pattern matches nothing.
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
        plan.append(weight.at_base(role, inits[weight.name]))
    return tuple(plan)


def role_of_all(names: list[Weight], readout: str | None) -> Role:
    """The one role of a layer that is used twice; an embedding that is also the readout has none.

    Raises:
        InputError: the names have different roles.
    """
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
    """Note that a parameter with a declared role has several names.

    Raises:
        InputError: the role is the readout.
    """
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
    """The declared roles by the first name of each parameter.

    Raises:
        InputError: a pattern matches nothing, or two patterns disagree.
    """
    roles: dict[str, Role] = {}
    for pattern, role in declared.items():
        matched = [
            names[0].name
            for names in weights
            if any(re.fullmatch(pattern, weight.name) for weight in names)
        ]
        if not matched:
            raise InputError(f"model.roles: no parameter's whole name matches {pattern!r}")
        for name in matched:
            if roles.setdefault(name, role) != role:
                raise InputError(
                    f"model.roles: {name} is {roles[name]} by one pattern and {role} by {pattern!r}"
                )
    return roles


def shown(shape: Shape) -> str:
    """A shape as in `8 x 16`."""
    return " x ".join(map(str, shape)) or "a number"
