"""A training step as one CUDA graph: one launch instead of hundreds, and no Python in between.

Small embeddings get a gradient that a graph can hold. torch's own backward sorts the tokens, which
cannot be captured, or adds with atomics, whose order and therefore rounding varies from run to run.
Here the gradient is a product with the tokens as one-hot rows: one kernel for all trials.

Shapes: V vocabulary, D width, N tokens; leading dimensions are arbitrary and equal for all tensors.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Result = TypeVar("Result")

# before the capture, torch compiles and every library allocates its workspace
WARM_UP_STEPS = 3
SYNCHRONIZES = "called a synchronizing CUDA operation"  # torch's words in its debug mode
# prefixes of file names that are not the user's code; "<" starts the name of generated code
NOT_THE_USERS = (str(Path(torch.__file__).parent), "<", str(Path(__file__).parents[1]))
MOST_VOCAB = 1024  # one-hot rows of a larger vocabulary take too much memory


class AsksTheHost(RuntimeError):
    """A step needs a value on the host midway, which no CUDA graph can provide."""


def captured(
    step: Callable[[], Result], beside: torch.cuda.CUDAGraph | None
) -> tuple[torch.cuda.CUDAGraph, Result]:
    """Capture a step; return its graph and the step's result, whose tensors each replay rewrites.

    The step must read and write the same tensors every time and never wait for the device. It runs
    WARM_UP_STEPS times before the capture.

    Args:
        beside: a graph that never runs at the same time; both share one memory pool.

    Raises:
        AsksTheHost: the step waits for the device; the message names the line of the program.
    """
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP_STEPS - 1):
            step()
        with no_questions():
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=beside.pool() if beside else None):
        result = step()
    return graph, result


@contextmanager
def no_questions() -> Iterator[None]:
    """Raise AsksTheHost for every operation inside that waits for the CUDA device."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    except RuntimeError as error:
        if SYNCHRONIZES not in str(error):
            raise
        raise AsksTheHost(
            f"{source_line(error)} waits for a value from the device, which no CUDA graph can hold"
        ) from error
    finally:
        torch.cuda.set_sync_debug_mode(before)


def source_line(error: BaseException) -> str:
    """Innermost line that led to the error: in the user's code if possible, otherwise in a library
    other than torch."""
    frames = traceback.extract_tb(error.__traceback__)
    others = [frame for frame in frames if not frame.filename.startswith(NOT_THE_USERS)]
    own = [frame for frame in others if "site-packages" not in frame.filename]
    found = (own or others or frames)[-1]
    return f"{found.filename}:{found.lineno} ({found.line})"


class ProductEmbedding(nn.Embedding):
    """An embedding whose gradient is a product with one-hot tokens."""

    def forward(self, input: Tensor) -> Tensor:
        device = input.device.type
        autocast = torch.is_autocast_enabled(device)
        product_type = torch.get_autocast_dtype(device) if autocast else self.weight.dtype
        flat = lookup(self.weight, input.flatten(), product_type)
        rows: Tensor = flat.unflatten(0, input.shape)
        return rows


def capturable_embeddings(model: nn.Module) -> None:
    """Turn the plain embeddings of up to MOST_VOCAB rows into ProductEmbeddings, in place."""
    for module in model.modules():
        if type(module) is not nn.Embedding or module.num_embeddings > MOST_VOCAB:
            continue
        if module.padding_idx is None and module.max_norm is None and not module.sparse:
            module.__class__ = ProductEmbedding


@torch.library.custom_op("mutransfer::lookup", mutates_args=())
def lookup(weight_VD: Tensor, tokens_N: Tensor, product_type: torch.dtype) -> Tensor:
    """Rows of the weight, [..., N, D]; its gradient is computed in `product_type`."""
    rows_ND = tokens_N.unsqueeze(-1).expand(*tokens_N.shape, weight_VD.shape[-1])
    return weight_VD.gather(-2, rows_ND)


@lookup.register_fake
def _(weight_VD: Tensor, tokens_N: Tensor, product_type: torch.dtype) -> Tensor:
    return weight_VD.new_empty(*tokens_N.shape, weight_VD.shape[-1])


def keep_tokens(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    weight_VD, tokens_N, ctx.product_type = inputs
    ctx.vocab = weight_VD.shape[-2]
    ctx.save_for_backward(tokens_N)


def sum_by_token(ctx: Any, d_rows_ND: Tensor) -> tuple[Tensor, None, None]:
    """Gradient in the weight: row v sums d_rows over the tokens equal to v."""
    (tokens_N,) = ctx.saved_tensors
    vocab_V = torch.arange(ctx.vocab, device=tokens_N.device)
    one_hot_NV = (tokens_N.unsqueeze(-1) == vocab_V).to(ctx.product_type)
    d_weight_VD = one_hot_NV.mT @ d_rows_ND.to(ctx.product_type)
    return d_weight_VD.to(d_rows_ND.dtype), None, None


def over_trials(
    info: Any,
    in_dims: tuple[int | None, int | None, None],
    weight: Tensor,
    tokens: Tensor,
    product_type: torch.dtype,
) -> tuple[Tensor, int]:
    """Batching rule for vmap: one lookup with the trials as the leading dimension."""
    weight, tokens = (
        stack.expand(info.batch_size, *stack.shape) if axis is None else stack.movedim(axis, 0)
        for stack, axis in zip((weight, tokens), in_dims[:2], strict=True)
    )
    return lookup(weight, tokens, product_type), 0


lookup.register_autograd(sum_by_token, setup_context=keep_tokens)
lookup.register_vmap(over_trials)
