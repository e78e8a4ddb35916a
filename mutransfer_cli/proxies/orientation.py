"""Which axis of a weight is its input: known from the type of the module that owns it."""

from __future__ import annotations

from torch import nn

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
FAN_IN_AXIS: tuple[tuple[tuple[type[nn.Module], ...], int], ...] = (
    ((nn.Linear, *CONVOLUTIONS), 1),
    ((nn.Embedding, nn.EmbeddingBag, *TRANSPOSED), 0),
)


def fan_in_axis(owner: nn.Module, leaf: str) -> int | None:
    """Of the parameter `leaf` of `owner`; None where its type says nothing of it."""
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
    """GPT-2's linear layer, whose weight lies the other way round."""
    kind = type(owner)
    return kind.__name__ == "Conv1D" and kind.__module__ == "transformers.pytorch_utils"


def is_depthwise(owner: nn.Module, wider: nn.Module) -> bool:
    """A convolution whose groups grow: every channel sees itself alone, as under a gain."""
    kinds = CONVOLUTIONS + TRANSPOSED
    if not isinstance(owner, kinds) or not isinstance(wider, kinds):
        return False
    same = owner.in_channels // owner.groups == wider.in_channels // wider.groups
    return owner.groups != wider.groups and same
