"""Calling models: their constants and outputs, one run of a base model, and its own factors."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.calling import constants, own_code, proportion, run_once
from mutransfer_cli.proxies.example import Example

VOCAB, CONTEXT, WIDTH = 11, 6, 8
TOKENS = Example.of_tokens(CONTEXT, VOCAB)


class Tiny(nn.Module):
    """One head of attention between an embedding and a readout of three times its product."""

    shift: Tensor

    def __init__(self, scale: float | None = None) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCAB, WIDTH)
        self.frozen = nn.Parameter(torch.ones(WIDTH), requires_grad=False)
        self.head = nn.Linear(WIDTH, VOCAB)
        self.unused = nn.Linear(WIDTH, WIDTH)
        self.scale = scale
        self.register_buffer("shift", torch.zeros(1))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens).unsqueeze(1)
        x = F.scaled_dot_product_attention(x, x, x, is_causal=True, scale=self.scale)
        logits: Tensor = 3 * self.head(x.squeeze(1) * self.frozen + self.shift)
        return logits


class WithLoss(Tiny):
    def forward(self, tokens: Tensor, targets: Tensor) -> Any:  # type: ignore[override]
        logits = super().forward(tokens)
        return SimpleNamespace(loss=F.cross_entropy(logits.flatten(0, 1), targets.flatten()))


class Broken(Tiny):
    def forward(self, tokens: Tensor) -> Tensor:
        raise RuntimeError("first line\nsecond line")


class WithoutTokens(Tiny):
    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens)[:, 0]


def test_constants_are_buffers_and_frozen_parameters() -> None:
    assert set(constants(Tiny())) == {"shift", "frozen"}


def test_one_run_finds_the_readout_and_the_memory_of_a_sequence() -> None:
    found = run_once(Tiny(), TOKENS)
    assert (found.readout, found.why_not, found.has_loss) == ("head.weight", "", False)
    # more than the readout's input and the loss's four copies of the logits
    assert found.sequence_bytes > 4 * CONTEXT * (WIDTH + 4 * VOCAB)
    with_loss = run_once(WithLoss(), TOKENS)
    assert (with_loss.readout, with_loss.has_loss) == ("head.weight", True)


def test_a_model_that_cannot_be_run_has_the_last_matrix_and_the_reason() -> None:
    model = Broken()
    found = run_once(model, TOKENS)
    assert (found.readout, found.sequence_bytes) == ("unused.weight", 0)
    assert found.why_not == "RuntimeError: first line (test_calling.py:50)"
    assert not any(module._forward_hooks for module in model.modules())


def test_outputs_of_other_shapes_are_refused() -> None:
    with pytest.raises(InputError, match=r"logits of 2 x 6 tokens have shape \[2, 11\]"):
        run_once(WithoutTokens(), TOKENS)
    few = Tiny()
    few.head = nn.Linear(WIDTH, VOCAB - 1)
    with pytest.raises(InputError, match=r"shape \[2, 6, 10\], expected \[2, 6, 11 or more\]"):
        run_once(few, TOKENS)


@pytest.mark.parametrize(("scale", "expected"), [(None, WIDTH**-0.5), (0.25, 0.25)])
def test_own_code_has_an_output_factor_and_a_scale(scale: float | None, expected: float) -> None:
    found = own_code(Tiny(scale), "head.weight", CONTEXT, VOCAB)
    assert found.output_factor == pytest.approx(3, rel=1e-5)
    assert found.scales == {(WIDTH, expected)}
    assert 0.1 < found.input_size < 3
    assert own_code(Tiny(), None, CONTEXT, VOCAB).output_factor is None
    assert own_code(Broken(), "head.weight", CONTEXT, VOCAB).scales == frozenset()


def test_a_proportion_ignores_a_bias_and_nothing_else() -> None:
    product = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    assert proportion(2 * product + torch.arange(3), product) == pytest.approx(2)
    assert proportion(product.tanh(), product) is None
    assert proportion(product[:1], product) is None
    assert proportion(product, torch.zeros_like(product)) is None
