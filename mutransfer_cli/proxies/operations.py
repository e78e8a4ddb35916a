"""Operations as torch's dispatcher names them: which axes they sum over, what they read."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

Axes = tuple[int, ...]

# index of the first factor among the arguments; the axes that are summed in each
SUMMED = {
    **dict.fromkeys(("mm", "bmm", "_grouped_mm"), (0, -1, -2)),
    **dict.fromkeys(("addmm", "baddbmm", "addbmm"), (1, -1, -2)),
    **{"mv": (0, -1, -1), "dot": (0, -1, -1), "addmv": (1, -1, -1)},
}
OF_VECTORS = ("mv", "addmv", "dot")  # with a constant they give a norm, not a layer's output
LOOKUPS = ("embedding", "_embedding_bag", "index", "index_select", "gather")
NORMS = ("native_layer_norm", "native_group_norm", "native_batch_norm", "_fused_rms_norm")
SOFTMAXES = ("_softmax", "_safe_softmax", "_log_softmax", "logsumexp")
LOSSES = ("mse_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy_with_logits")
SUMS = ("add", "add_", "sub", "sub_", "rsub", "cat")
SCALINGS = ("mul", "mul_", "div", "div_")
ATTENTION = "scaled_dot_product"
TORCH = str(Path(torch.__file__).parent)
OURS = str(Path(__file__).parent.parent)
WATCHING = tuple(str(Path(__file__).with_name(name)) for name in ("operations.py", "tracing.py"))


def summed_axes(name: str, args: Any) -> list[tuple[Tensor, Axes]]:
    """The factors of a product with the axes that it sums over in each; empty otherwise."""
    if name in SUMMED:
        first, one, other = SUMMED[name]
        return [(args[first], (one,)), (args[first + 1], (other,))]
    if name == "convolution":
        of_channel = args[8] > 1 and args[1].shape[1] == 1
        kernel = tuple(range(2, args[1].dim()))
        over = () if of_channel else (0 if args[6] else 1, *kernel)
        return [(args[0], (1,)), (args[1], over)]
    if name == "_trilinear":  # nn.Bilinear
        return [(args[0], (1,)), (args[1], (1, 2)), (args[2], (1,))]
    if name == "mkldnn_rnn_layer":
        return [(args[0], (-1,)), (args[1], (1,)), (args[2], (1,))]
    return []


def looked_up(name: str, args: Any) -> Axes:
    """The dimensions of a table of which a lookup takes one index."""
    if name == "index":
        return tuple(dim for dim, index in enumerate(args[1]) if index is not None)
    if name in ("index_select", "gather"):
        return (args[1] % args[0].dim(),)
    return (0,)


def leaves(tree: Any) -> Iterator[Any]:
    """The items of nested sequences and mappings."""
    if isinstance(tree, Mapping):
        tree = tree.values()
    elif not isinstance(tree, list | tuple):
        yield tree
        return
    for item in tree:
        yield from leaves(item)


def overlaps(tensor: Tensor) -> bool:
    """Whether several entries of a tensor share memory."""
    pairs = zip(tensor.stride(), tensor.shape, strict=True)
    return any(not stride and size > 1 for stride, size in pairs)


def at(tensor: Tensor) -> int:
    """The address of a tensor's storage."""
    return tensor.untyped_storage().data_ptr()


def size_of(tensor: Tensor) -> float:
    """Root mean square of the finite values; entries that a mask removes do not count."""
    found = tensor.detach()[tensor.isfinite() & (tensor > torch.finfo(tensor.dtype).min / 2)]
    return float(found.double().square().mean().sqrt()) if found.numel() else 0.0


def line_of_code() -> str:
    """File and line of the model's code that runs now; empty in this package's own, the loss."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((TORCH, *WATCHING, "<")):
            return "" if file.startswith(OURS) else f"{Path(file).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""
