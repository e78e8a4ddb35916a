"""Autocast gives every operator the same types under vmap as without it."""

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


def attention(x: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(x, x, x, is_causal=True)


# functions of x [4, 8], a matrix [8, 8] and a vector [8]
Operator = Callable[[Tensor, Tensor, Tensor], Tensor]
OPERATORS: dict[str, Operator] = {
    "linear with a bias": F.linear,
    "linear without": lambda x, y, z: F.linear(x, y),
    "matmul": lambda x, y, z: x @ y,
    "einsum": lambda x, y, z: torch.einsum("ab,bc->c", x, y),
    "addmm": lambda x, y, z: torch.addmm(z, x, y),
    "baddbmm": lambda x, y, z: torch.baddbmm(y.unsqueeze(0), y.unsqueeze(0), y.unsqueeze(0)),
    "addr": lambda x, y, z: torch.addr(y, z, z),
    "attention": lambda x, y, z: attention(x.view(1, 1, 4, 8)),
    "multi-head attention": lambda x, y, z: F.multi_head_attention_forward(
        x, x, x, 8, 2, torch.cat((y, y, y)), None, None, None, False, 0.0, y, None
    )[0],
    "softmax": lambda x, y, z: x.softmax(-1),
    "log_softmax": lambda x, y, z: F.log_softmax(x, -1),
    "rms_norm": lambda x, y, z: F.rms_norm(x, (8,)),
    "layer_norm": lambda x, y, z: F.layer_norm(x, (8,)),
    "group_norm": lambda x, y, z: F.group_norm(x, 2),
    "cross_entropy": lambda x, y, z: F.cross_entropy(x, x.argmax(1)),
    "mean square": lambda x, y, z: x.pow(2).mean().rsqrt(),
    "l1_loss": lambda x, y, z: F.l1_loss(x, x + 1),
    "cat": lambda x, y, z: torch.cat((x, y)),
    "gelu": lambda x, y, z: F.gelu(x),
}


@pytest.fixture(autouse=True)
def rules() -> None:
    assert autocast_before_vmap() is not None
    batch_cpu_attention()


@contextmanager
def autocast(device: str) -> Iterator[None]:
    """Enter autocast also for CUDA without a GPU, which torch.autocast refuses."""
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
        x = torch.ones(4, 8, dtype=given, device=device)
        y, z = torch.ones(8, 8, device=device), torch.ones(8, device=device)
        stacks = [torch.stack((one, one, one)) for one in (x, y, z)]
        assert vmap(function)(*stacks).dtype == function(x, y, z).dtype


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
