"""A user's model trained side by side in bf16 has the types of the model alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutransfer_cli.optim.adamw import AdamWSpec
from mutransfer_cli.spec.sweep import TrainSpec
from mutransfer_cli.train.ensemble import Ensemble
from tests.conftest import CPU


class Rotated(nn.Module):
    """Attention whose rotation leaves queries and keys in fp32, beside values in bf16."""

    angles: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(64, 16)
        self.qkv = nn.Linear(16, 48)
        self.readout = nn.Linear(16, 64)
        angles = torch.outer(torch.arange(16.0), 10_000.0 ** -(torch.arange(4) / 4))
        self.register_buffer("angles", angles.repeat(1, 2))

    def forward(self, tokens: Tensor) -> Any:
        x = self.embedding(tokens)
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 8)).permute(2, 0, 3, 1, 4)
        q, k = (
            y * self.angles.cos() + torch.cat((-y[..., 4:], y[..., :4]), -1) * self.angles.sin()
            for y in (q, k)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.readout(x + mixed.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("compiled", [False, True])
def test_queries_in_fp32_meet_values_in_bf16(compiled: bool) -> None:
    torch.manual_seed(0)
    model = Rotated()
    tokens = torch.randint(64, (3, 2, 17))
    params = {
        name: torch.stack((p.detach(), p.detach(), p.detach())).requires_grad_()
        for name, p in model.named_parameters()
    }
    engine = Ensemble(model, TrainSpec(steps=1, precision="bf16"), AdamWSpec(), CPU)
    losses = engine.losses
    if compiled:
        losses = torch.compile(losses, backend="aot_eager", fullgraph=True)
    found = losses(params, dict.fromkeys(params, 1.0), tokens)
    with torch.autocast("cpu", torch.bfloat16):
        alone = torch.stack(
            [
                F.cross_entropy(model(x[:, :-1]).float().flatten(0, 1), x[:, 1:].flatten())
                for x in tokens
            ]
        )
    torch.testing.assert_close(found, alone, rtol=1e-4, atol=0)
    of_one = torch.autograd.grad(alone[1], list(model.parameters()))
    stacks = torch.autograd.grad(found.sum(), list(params.values()))
    for stack, gradient in zip(stacks, of_one, strict=True):
        torch.testing.assert_close(stack[1], gradient, rtol=0.02, atol=2e-4)
