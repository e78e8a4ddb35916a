"""The parameters of a model at two widths, and what the types of their modules tell about them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.rules.choices import Role, role_of

Note = Callable[[str], None]
Shape = tuple[int, ...]

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


def is_convolution(owner: nn.Module) -> bool:
    """Whether a module is a convolution, transposed or not."""
    return isinstance(owner, CONVOLUTIONS + TRANSPOSED)


def is_depthwise(owner: nn.Module, wider: nn.Module) -> bool:
    """Whether a convolution has a growing number of channels that see only themselves."""
    kinds = CONVOLUTIONS + TRANSPOSED
    if not isinstance(owner, kinds) or not isinstance(wider, kinds):
        return False
    same = owner.in_channels // owner.groups == wider.in_channels // wider.groups == 1
    return owner.groups != wider.groups and same


def silent(sentence: str) -> None:
    """Ignore a note."""


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

    def role(self, is_readout: bool) -> Role:
        """The role as far as shapes and the owner's type tell it.

        Raises:
            InputError: they do not tell.
        """
        growing = self.growing_axes
        if is_readout and set(growing) - {self.fan_in_axis}:
            raise InputError(
                f"{self.name} makes the output and its fan-out grows with width "
                f"({shown(self.shape)} and {shown(self.wide_shape)}); if another parameter makes "
                "the logits, name it: model.roles {name: readout}"
            )
        if self.fan_in_axis in growing and not self.depthwise:
            return role_of(self.name, growing, self.fan_in_axis, is_readout)
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


def shapes_of(module: nn.Module) -> dict[str, Shape]:
    """Shape of every parameter by name."""
    return {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}


def shown(shape: Shape) -> str:
    """A shape as in `8 x 16`."""
    return " x ".join(map(str, shape)) or "a number"
