"""Hugging Face models attend without masks wherever that changes nothing."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mutransfer_cli.optim.adamw import AdamWSpec
from mutransfer_cli.proxies.build import build_proxy
from mutransfer_cli.proxies.example import Example
from mutransfer_cli.proxies.hf import TORCHS, UNMASKED, drop_masks
from mutransfer_cli.spec.model import HfProtocol
from mutransfer_cli.spec.sweep import TrainSpec
from mutransfer_cli.train.ensemble import Ensemble
from mutransfer_cli.train.execution import EAGER, allowed
from tests.conftest import CPU
from tests.proxies.test_hf import CONFIGS, MODERN, hf_model

transformers: Any = pytest.importorskip("transformers")

Precision = Literal["fp32", "bf16"]

CONTEXT = 16
OTHERS: dict[str, dict[str, Any]] = {
    "gemma2": CONFIGS["gemma"] | {"sliding_window": 64},
    "gemma3_text": CONFIGS["gemma"] | {"sliding_window": 64},
    "llama4_text": MODERN | {"attention_chunk_size": 8},
}


def proxy(model_type: str, **changes: Any) -> Any:
    if model_type in CONFIGS:
        return build_proxy(hf_model(model_type, **changes), CONTEXT, 16, 16)
    config = {"model_type": model_type, **OTHERS[model_type], **changes}
    return build_proxy(HfProtocol(hf=config, untie=True, roles={}, vocab=256), CONTEXT, 16, 16)


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(256, (3, 2, CONTEXT + 1), generator=torch.Generator().manual_seed(0))


def plain(model: Any, tokens: Tensor, precision: Precision = "fp32") -> Tensor:
    """Losses with transformers' own choice of attention, one trial after the other."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        logits = [model(of_trial[:, :-1]).logits for of_trial in tokens]
    return torch.stack(
        [
            F.cross_entropy(x.float().flatten(0, 1), of_trial[:, 1:].flatten())
            for x, of_trial in zip(logits, tokens, strict=True)
        ]
    )


def side_by_side(
    model: Any, tokens: Tensor, precision: Precision = "fp32", compiled: bool = False
) -> Tensor:
    """Losses of the engine, with a backward pass."""
    params = {
        name: torch.stack([p.detach()] * len(tokens)).requires_grad_()
        for name, p in model.named_parameters()
    }
    engine = Ensemble(model, TrainSpec(steps=1, precision=precision), AdamWSpec(), CPU)
    losses = engine.losses
    if compiled:
        torch.compiler.reset()
        losses = torch.compile(losses, backend="aot_eager", fullgraph=True)
    found = losses(params, dict.fromkeys(params, 1.0), tokens)
    gradients = torch.autograd.grad(found.sum(), list(params.values()))
    assert all(gradient.isfinite().all() for gradient in gradients)
    return found.detach()


@pytest.mark.parametrize(
    ("model_type", "changes", "attention"),
    [
        ("llama", {}, UNMASKED),
        ("llama", {"num_key_value_heads": 1}, UNMASKED),
        ("mistral", {"sliding_window": 17}, UNMASKED),
        ("mistral", {"sliding_window": 16}, "eager"),
        ("mistral", {"sliding_window": 8}, "eager"),
        ("qwen3", {}, UNMASKED),
        ("gemma", {}, UNMASKED),
        ("gemma2", {}, "eager"),  # its scores are capped
        ("gemma3_text", {}, UNMASKED),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, UNMASKED),
    ],
)
def test_no_model_computes_anything_else(
    tokens: Tensor, model_type: str, changes: dict[str, Any], attention: str
) -> None:
    model = proxy(model_type, **changes)
    assert model.config._attn_implementation == attention
    assert allowed(model, Example(tokens[0, :, :-1], 0), EAGER) == (EAGER, ""), "side by side"
    found = side_by_side(model, tokens)
    if attention == UNMASKED:
        model.set_attn_implementation(TORCHS)
    torch.testing.assert_close(found, plain(model, tokens), rtol=1e-6, atol=0)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("way", ["eager", "compiled", "captured"])
def test_llama_is_one_code_however_it_is_run(
    tokens: Tensor, precision: Precision, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = proxy("llama")
    if way == "captured":
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    found = side_by_side(model, tokens, precision, way == "compiled")
    monkeypatch.undo()
    model.set_attn_implementation(TORCHS)
    torch.testing.assert_close(found, plain(model, tokens, precision), rtol=1e-6, atol=0)


def test_masks_that_say_more_than_causal_stay() -> None:
    """Llama 4 attends within chunks, here of 8 of 16 tokens."""
    assert proxy("llama4_text").config._attn_implementation == TORCHS
    whole = proxy("llama4_text", attention_chunk_size=64)
    assert whole.config._attn_implementation == UNMASKED


def test_a_model_that_calls_otherwise_without_masks_keeps_them() -> None:
    config = transformers.FalconConfig(
        hidden_size=16, num_attention_heads=2, num_hidden_layers=2, vocab_size=64
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    tokens_BS = torch.arange(CONTEXT).view(1, CONTEXT)
    before = model(tokens_BS).logits
    drop_masks(transformers, model, CONTEXT)
    assert model.config._attn_implementation == TORCHS
    assert torch.equal(model(tokens_BS).logits, before)
