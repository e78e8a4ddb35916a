"""An unmodified Hugging Face model passes through the engine without a loop over trials."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mutransfer_cli.optim.adamw import AdamWSpec
from mutransfer_cli.proxies.example import Example
from mutransfer_cli.spec.sweep import TrainSpec
from mutransfer_cli.train.ensemble import Ensemble
from mutransfer_cli.train.execution import EAGER, Execution, allowed
from tests.conftest import CPU

transformers: Any = pytest.importorskip("transformers")


class Llama(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        config = transformers.LlamaConfig(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            use_cache=False,
        )
        torch.manual_seed(0)
        self.llama = transformers.LlamaForCausalLM(config)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.llama(tokens).logits
        return logits


@pytest.fixture
def llama() -> Llama:
    return Llama()


def losses_and_gradients(
    model: nn.Module, params: dict[str, Tensor], tokens: Tensor, batched: bool = True
) -> list[Tensor]:
    execution = Execution(compiled=False, captured=False, batched=batched)
    engine = Ensemble(model, TrainSpec(steps=1), AdamWSpec(), CPU, execution)
    losses = engine.losses(params, dict.fromkeys(params, 1.0), tokens)
    return [losses.detach(), *torch.autograd.grad(losses.sum(), list(params.values()))]


def test_llama_is_trained_side_by_side_without_a_loop(llama: Llama) -> None:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(64, (3, 2, 17), generator=generator)
    params = {
        name: (p.detach() * torch.tensor([1.0, 0.5, 2.0]).view(-1, *[1] * p.dim())).requires_grad_()
        for name, p in llama.named_parameters()
    }
    functorch: Any = torch._C._functorch
    functorch._set_vmap_fallback_enabled(False)
    try:
        assert allowed(llama, Example(tokens[0, :, :-1], 0), EAGER) == (EAGER, "")
        together = losses_and_gradients(llama, params, tokens)
    finally:
        functorch._set_vmap_fallback_enabled(True)
    torch.testing.assert_close(together, losses_and_gradients(llama, params, tokens, batched=False))
