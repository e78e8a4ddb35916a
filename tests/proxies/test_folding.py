"""The norm before the readout is found by what its gain and bias do to the logits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mutransfer_cli.proxies.folding import before_readout
from tests.proxies.tied_gpts import Gpt, OneName

TOKENS = torch.arange(12).view(2, 6)


def found_in(model: nn.Module) -> frozenset[str]:
    vectors = {name for name, p in model.named_parameters() if p.dim() == 1}
    before = {name: p.clone() for name, p in model.named_parameters()}
    found = before_readout(model, vectors, lambda: model(TOKENS))
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name])
    return found


@pytest.mark.parametrize("kind", [Gpt, OneName])
def test_a_final_norm_is_found_with_gain_and_bias(kind: type[nn.Module]) -> None:
    model = kind(16, 20)
    nn.init.normal_(model.get_parameter("transformer.ln_f.bias"))
    assert found_in(model) == {"transformer.ln_f.weight", "transformer.ln_f.bias"}


def test_a_bias_of_the_readout_does_not_hide_it() -> None:
    model = Gpt(16, 20)
    model.lm_head.bias = nn.Parameter(torch.randn(20))
    assert found_in(model) == {"transformer.ln_f.weight", "transformer.ln_f.bias"}


class FromOne(nn.LayerNorm):
    """A norm whose gain counts from 1."""

    def forward(self, x: Tensor) -> Tensor:
        return x / x.square().mean(-1, keepdim=True).sqrt() * (1 + self.weight) + self.bias


def test_a_gain_that_counts_from_1_takes_no_factor() -> None:
    model = Gpt(16, 20)
    model.transformer["ln_f"] = FromOne(16)
    assert found_in(model) == frozenset()


def test_nothing_stands_before_the_readout_of_a_model_without_a_final_norm() -> None:
    model = Gpt(16, 20)
    model.transformer["ln_f"] = nn.Identity()
    assert found_in(model) == frozenset()


def test_capped_logits_are_no_multiple_of_a_gain() -> None:
    class Capped(Gpt):
        def forward(self, tokens: Tensor) -> Tensor:
            return torch.tanh(super().forward(tokens))

    assert found_in(Capped(16, 20)) == frozenset()
