"""Models that recompute activations in the backward pass train side by side, with right gradients.

The wrong ones that they have otherwise are shown in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils.checkpoint import checkpoint

from mutransfer_cli.torch_private import without_recomputation

EFFECT = """
import torch
from torch import nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 1)
    def forward(self, x, kept):
        inner = lambda x: self.two(torch.tanh(self.one(x)))
        return inner(x) if kept else checkpoint(inner, x, use_reentrant=False)
torch.manual_seed(0)
model, x = Model(), torch.randn(2, 3)
values = {n: (p + 1).detach().requires_grad_() for n, p in model.named_parameters()}
def gradient(kept):
    loss = functional_call(model, values, (x, kept)).sum()
    return torch.autograd.grad(loss, values["one.weight"])[0]
print(torch.allclose(gradient(True), gradient(False)))
"""


class Model(nn.Module):
    def __init__(self, call: Callable[..., Tensor]) -> None:
        super().__init__()
        self.one, self.two, self.call = nn.Linear(3, 3), nn.Linear(3, 1), call

    def inner(self, x: Tensor) -> Tensor:
        out: Tensor = self.two(torch.tanh(self.one(x)))
        return out

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self.inner, x)


def kept(function: Callable[..., Tensor], x: Tensor) -> Tensor:
    return function(x)


def recomputed(function: Callable[..., Tensor], x: Tensor) -> Tensor:
    out: Tensor = checkpoint(function, x, use_reentrant=False)
    return out


def recomputed_reentrantly(function: Callable[..., Tensor], x: Tensor) -> Tensor:
    out: Tensor = checkpoint(function, x, use_reentrant=True)
    return out


def test_a_recomputed_model_reads_other_weights_than_it_was_given() -> None:
    done = subprocess.run([sys.executable, "-c", EFFECT], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize("call", [recomputed, recomputed_reentrantly])
def test_activations_are_kept_side_by_side(call: Callable[..., Tensor]) -> None:
    without_recomputation()
    torch.manual_seed(0)
    model, x = Model(call), torch.randn(2, 3)
    stacks = {n: torch.stack([p + 1, p - 1]).detach() for n, p in model.named_parameters()}

    def gradients(model: nn.Module) -> list[Tensor]:
        values = {name: stack.requires_grad_() for name, stack in stacks.items()}
        losses = vmap(lambda values: functional_call(model, values, (x,)).sum())(values)
        return list(torch.autograd.grad(losses.sum(), list(values.values())))

    plain = Model(kept)
    for found, wanted in zip(gradients(model), gradients(plain), strict=True):
        assert torch.equal(found, wanted)
        assert found.any()


def test_an_error_inside_passes_through() -> None:
    without_recomputation()

    def broken(x: Tensor) -> Tensor:
        raise ValueError("no")

    for call in (recomputed, recomputed_reentrantly):
        with pytest.raises(ValueError, match="no"):
            call(broken, torch.zeros(1))
