"""Places where a model is measured; measuring changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from mutransfer_cli.diagnose.forward import Places, watched
from mutransfer_cli.proxies.build import build_proxy
from mutransfer_cli.sweep.prepare import Sweep
from tests.proxies import own_models
from tests.proxies.test_hf import hf_model

TOKENS = torch.arange(12).view(2, 6)
GPT2_BLOCKS = ("transformer.h.0", "transformer.h.1")


class AroundASequence(nn.Module):
    """A sequence of blocks in a dictionary of modules, each with a list inside."""

    def __init__(self) -> None:
        super().__init__()
        blocks = [own_models.TokenMlp(8, 32) for _ in range(2)]
        self.parts = nn.ModuleDict({"body": nn.Sequential(nn.GELU(), *blocks)})
        self.experts = nn.ModuleList([nn.ModuleList([nn.Linear(8, 8)])])


def places(model: nn.Module) -> tuple[list[str], list[str]]:
    found = Places.of(model)
    return list(found.blocks), list(found.layers)


def test_of_the_built_in_model_the_residual_stream_and_the_ends(
    tiny: dict[str, Any], prepare: Callable[[dict[str, Any]], Sweep]
) -> None:
    tiny["model"]["depth"] = 2
    blocks, layers = places(prepare(tiny).model(16))
    assert blocks == ["embedding", "blocks.0", "blocks.1", "readout"]
    of_block = ["attention.qkv", "attention.out", "up", "down"]
    expected = [f"blocks.{block}.{name}.weight" for block in (0, 1) for name in of_block]
    assert layers == [*expected, "readout.weight"]


@pytest.mark.parametrize(
    ("model", "blocks"),
    [
        (own_models.token_mlp(8, 32), ["embed", "up", "down", "head"]),
        (own_models.shared_layers(8, 32), ["0", "1", "3"]),
        (AroundASequence(), ["parts.body.1", "parts.body.2", "experts.0.0"]),
        (
            own_models.tied_moe(16, 32, 8),
            ["token", "attention.0", "attention.1", "experts.0", "experts.1", "head"],
        ),
    ],
)
def test_of_own_models_the_elements_of_lists_and_what_owns_a_matrix(
    model: nn.Module, blocks: list[str]
) -> None:
    assert places(model)[0] == blocks


@pytest.mark.parametrize(
    ("model_type", "blocks", "layers"),
    [
        ("llama", ["model.embed_tokens", "model.layers.0", "model.layers.1", "lm_head"], 2 * 7 + 1),
        ("gpt2", ["transformer.wte", "transformer.wpe", *GPT2_BLOCKS, "lm_head"], 2 * 4 + 1),
    ],
)
def test_of_hugging_face_models(model_type: str, blocks: list[str], layers: int) -> None:
    model = build_proxy(hf_model(model_type), 16, 16, 16)
    found = Places.of(model)
    assert list(found.blocks) == blocks
    assert len(found.layers) == layers
    with watched(found) as seen:
        model(TOKENS)
    assert set(seen.outputs) == set(blocks)
    assert set(seen.products) == set(found.layers)
    assert seen.outputs[blocks[-2]].shape == (2, 6, 16), "a tensor, whatever a block returns"


def test_a_tied_weight_is_seen_where_it_multiplies_under_its_one_name() -> None:
    model = own_models.tied_moe(16, 32, 8)
    with watched(Places.of(model)) as seen:
        model(TOKENS)
    assert seen.products["token.weight"][0].output.shape == (2, 6, 32)


def test_all_calls_of_a_layer_are_seen() -> None:
    model = own_models.shared_layers(8, 32)
    with watched(Places.of(model)) as seen:
        model(TOKENS)
    assert {name: len(calls) for name, calls in seen.products.items()} == {
        "1.weight": 2,
        "3.weight": 1,
    }


class ByKeyword(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(4, 4), nn.Linear(4, 4)
        self.frozen = nn.Linear(4, 4).requires_grad_(False)
        self.recurrent = nn.GRU(4, 4)

    def forward(self, x: Tensor) -> Any:
        return self.recurrent(self.frozen(self.used(input=x)))


def test_what_is_not_called_or_not_trained_is_not_seen() -> None:
    model = ByKeyword()
    with watched(Places.of(model)) as seen:
        model(torch.ones(2, 3, 4))
    assert set(seen.products) == {"used.weight"}
    assert set(seen.outputs) == {"used", "recurrent"}
    assert seen.outputs["recurrent"].shape == (2, 3, 4), "the first of what it returns"


def test_under_vmap_each_trial_sees_its_own_and_nothing_stays_behind() -> None:
    model = own_models.rounded_mlp(16, 32)
    places = Places.of(model)
    stacks = {name: torch.stack([p.detach(), 2 * p]) for name, p in model.named_parameters()}

    def outputs(values: dict[str, Tensor]) -> dict[str, Tensor]:
        with watched(places) as seen:
            functional_call(model, values, (TOKENS,))
        return seen.outputs

    found = vmap(outputs)(stacks)
    for trial in (0, 1):
        alone = outputs({name: stack[trial] for name, stack in stacks.items()})
        for name, output in found.items():
            torch.testing.assert_close(output[trial], alone[name])
    assert not any(module._forward_hooks for module in model.modules())


def test_a_model_that_fails_keeps_no_hooks() -> None:
    model = own_models.rounded_mlp(16, 32)
    with pytest.raises(IndexError), watched(Places.of(model)):
        model(TOKENS + 1000)
    assert not any(module._forward_hooks for module in model.modules())
