"""Under vmap autocast gives every operator the types that it gives it without."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import vmap

from mutransfer_cli.torch_private import autocast_before_vmap, batch_cpu_attention

# of x [4, 8] and y [8, 8], by what autocast casts; * is right on CUDA only (docstring of the rule)
OPERATORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "linear with a bias": lambda x, y: F.linear(x, y, y[0]),
    "linear without": lambda x, y: F.linear(x, y),
    "matmul": lambda x, y: x @ y,
    "einsum": lambda x, y: torch.einsum("ab,bc->c", x, y),
    "addmm": lambda x, y: torch.addmm(y[0], x, y),
    "baddbmm": lambda x, y: torch.baddbmm(x[None], x[None], y[None]),
    "addr": lambda x, y: torch.addr(y, y[0], y[1]),
    "conv1d": lambda x, y: F.conv1d(x[None], y[:, :4, None]),
    "attention": lambda x, y: F.scaled_dot_product_attention(*[x[None, None]] * 3, is_causal=True),
    "multi-head attention": lambda x, y: F.multi_head_attention_forward(
        x, x, x, 8, 2, torch.cat((y, y, y)), None, None, None, False, 0.0, y, None
    )[0],
    "softmax": lambda x, y: x.softmax(-1),
    "log_softmax": lambda x, y: F.log_softmax(x, -1),
    "rms_norm": lambda x, y: F.rms_norm(x, (8,)),
    "layer_norm": lambda x, y: F.layer_norm(x, (8,), y[0]),
    "group_norm": lambda x, y: F.group_norm(x, 2),
    "cross_entropy": lambda x, y: F.cross_entropy(x, x.argmax(1)),
    "mean square": lambda x, y: x.pow(2).mean().rsqrt(),
    "l1_loss": lambda x, y: F.l1_loss(x, y[:4]),
    "cat": lambda x, y: torch.cat((x, y)),
    "gelu": lambda x, y: F.gelu(x),
}


@pytest.fixture(autouse=True)
def rules() -> None:
    assert autocast_before_vmap() is not None
    batch_cpu_attention()


@contextmanager
def autocast(device: str) -> Iterator[None]:
    """torch.autocast refuses CUDA where there is none."""
    torch.set_autocast_dtype(device, torch.bfloat16)
    torch.set_autocast_enabled(device, True)
    try:
        yield
    finally:
        torch.set_autocast_enabled(device, False)
        torch.clear_autocast_cache()


@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", OPERATORS)
def test_types_are_those_of_plain_autocast(name: str, device: str, given: torch.dtype) -> None:
    function = OPERATORS[name]
    with FakeTensorMode() if device == "cuda" else nullcontext(), autocast(device):
        x = torch.ones(3, 4, 8, dtype=given, device=device)
        y = torch.ones(3, 8, 8, device=device)
        plain = function(torch.ones_like(x[0]), torch.ones_like(y[0]))
        assert vmap(function)(x, y).dtype == plain.dtype


@pytest.mark.parametrize("compiled", [False, True])
def test_queries_and_keys_of_another_type_than_values_are_cast(compiled: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 3, 1, 2, 8, 4, generator=generator)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v.bfloat16(), is_causal=True)

    def stacked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            found: Tensor = vmap(attend)(q, k, v)
        return found

    run = torch.compile(stacked, backend="aot_eager", fullgraph=True) if compiled else stacked
    with torch.autocast("cpu", torch.bfloat16):
        each = torch.stack([attend(*of_trial) for of_trial in zip(q, k, v, strict=True)])
    assert torch.equal(run(q, k, v), each)


def test_autocast_turned_off_inside_is_off() -> None:
    def product(x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return F.linear(x, x, x[0])

    x = torch.randn(3, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        found = vmap(product)(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found[1], product(x[1]))


def test_it_is_registered_once_and_says_nothing() -> None:
    autocast_before_vmap.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = autocast_before_vmap()
    assert autocast_before_vmap() is first
