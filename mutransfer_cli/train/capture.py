"""A step as one CUDA graph: a launch instead of hundreds, and no Python.

MERGED:
Embeddings whose gradient a CUDA graph can hold.

torch's own backward sorts the tokens, which no graph can capture, or adds with atomics, whose
order and so whose rounding changes from run to run. For a small vocabulary the gradient is a
product with the tokens as one-hot rows: neither, and one kernel for all trials.

Shapes: V vocabulary, D width, N tokens; any leading dimensions, the same for all.
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

# compiles, and has every library allocate its workspace, before the capture
WARM_UP_STEPS = 3
SYNCHRONIZES = "called a synchronizing CUDA operation"  # torch's words in its debug mode
# folders whose lines are not the user's; files named so are no files
NOT_THE_USERS = (str(Path(torch.__file__).parent), "<", str(Path(__file__).parents[1]))


class AsksTheHost(RuntimeError):
    """A step needs a value on the host in its middle, which no CUDA graph can give it."""


def captured(
    step: Callable[[], Result], beside: torch.cuda.CUDAGraph | None
) -> tuple[torch.cuda.CUDAGraph, Result]:
    """The graph of a step, and the result of the step, whose tensors hold the values of the last
    replay.

    The step must read and write the same tensors every time and ask the host nothing. It is run a
    few times on the way.

    Args:
        beside: a graph that never runs at the same time; the two share their memory.

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
    """While entered, an operation that waits for the CUDA device raises AsksTheHost."""
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
    """The innermost line of the program that raised an error: of the user's own code where it went
    through any, else of a library that is not torch."""
    frames = traceback.extract_tb(error.__traceback__)
    others = [frame for frame in frames if not frame.filename.startswith(NOT_THE_USERS)]
    own = [frame for frame in others if "site-packages" not in frame.filename]
    found = (own or others or frames)[-1]
    return f"{found.filename}:{found.lineno} ({found.line})"


MOST_VOCAB = 1024  # one-hot rows of more take too much memory


class ProductEmbedding(nn.Embedding):
    def forward(self, input: Tensor) -> Tensor:
        device = input.device.type
        autocast = torch.is_autocast_enabled(device)
        product_type = torch.get_autocast_dtype(device) if autocast else self.weight.dtype
        flat = lookup(self.weight, input.flatten(), product_type)
        rows: Tensor = flat.unflatten(0, input.shape)
        return rows


def capturable_embeddings(model: nn.Module) -> None:
    """Has the small embeddings of a model take their gradient by a product, in place."""
    for module in model.modules():
        plain = type(module) is nn.Embedding and module.padding_idx is None
        if plain and not module.sparse and module.max_norm is None and small(module):
            module.__class__ = ProductEmbedding


def small(embedding: nn.Embedding) -> bool:
    return embedding.num_embeddings <= MOST_VOCAB


@torch.library.custom_op("mutransfer::lookup", mutates_args=())
def lookup(weight_VD: Tensor, tokens_N: Tensor, product_type: torch.dtype) -> Tensor:
    """Rows of the weight, [..., N, D]; the product of its gradient is in `product_type`."""
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
    weight, tokens = (
        stack.expand(info.batch_size, *stack.shape) if axis is None else stack.movedim(axis, 0)
        for stack, axis in zip((weight, tokens), in_dims[:2], strict=True)
    )
    return lookup(weight, tokens, product_type), 0


lookup.register_autograd(sum_by_token, setup_context=keep_tokens)
lookup.register_vmap(over_trials)
