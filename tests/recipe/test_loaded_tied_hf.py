"""Tied models of transformers train by a folded recipe as they are, as the engine trained them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from mutransfer_cli.data.corpus import gather, train_offsets
from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.noise import stream_generator
from mutransfer_cli.recipe.build import build_recipe
from mutransfer_cli.recipe.loaded import load_recipe
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.spec.yaml_io import dump
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.slots import schedule_tensor
from tests.recipe.test_build import exponents
from tests.recipe.test_loaded_tied import SEED, WIDTH, engine_losses

pytest.importorskip("transformers")
Prepare = Callable[[dict[str, Any]], Sweep]
CONFIGS: dict[str, dict[str, Any]] = {
    "qwen3": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 1,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 8,
        "tie_word_embeddings": True,
    },
    "gpt2": {"n_embd": 64, "n_layer": 1, "n_head": 8, "n_positions": 32},
}


@pytest.fixture
def spec(tiny: dict[str, Any], tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    tiny["train"] |= {"steps": 8, "batch": 4, "clip": None}

    def write(model_type: str) -> dict[str, Any]:
        config = {"model_type": model_type, "initializer_range": 0.1, **CONFIGS[model_type]}
        (tmp_path / "config.json").write_text(json.dumps(config))
        return tiny | {"model": {"hf": "config.json"}}

    return write


@pytest.mark.parametrize("model_type", CONFIGS)
def test_a_tied_config_needs_no_change(
    spec: Callable[[str], dict[str, Any]], prepare: Prepare, model_type: str
) -> None:
    sweep = prepare(spec(model_type) | {"sweep": {"widths": [16, 32, 64], "axes": {"lr": [0.01]}}})
    (tied,) = (p for p in sweep.base_plan if p.is_tied_readout)
    assert tied.role == "embedding"
    recipe = build_recipe(exponents(sweep), Target(WIDTH, {}, folded=True))
    loaded, model, train = (
        load_recipe(io.StringIO(dump(recipe))),
        sweep.model(WIDTH),
        sweep.protocol.train,
    )
    assert loaded.multipliers(model)["lm_head.weight"] == 1.0
    assert not loaded.init_(model, stream_generator(SEED, "init")).left
    optimizer = torch.optim.AdamW(loaded.param_groups(model))
    schedule = [*schedule_tensor(train).double().tolist(), 0.0]
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule[step])
    offsets, losses = train_offsets(sweep.corpus, train, SEED), []
    for step in range(train.steps):
        tokens = gather(torch.from_numpy(sweep.corpus.train), offsets[step], train.context)
        logits = model(tokens[:, :-1]).logits
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        scheduler.step()
        losses.append(loss.detach())
    engine = engine_losses(sweep, recipe)
    torch.testing.assert_close(torch.stack(losses), engine, rtol=1e-4, atol=1e-4)


def test_an_optimizer_without_updates_of_fixed_size_is_refused_before_training(
    spec: Callable[[str], dict[str, Any]], prepare: Prepare
) -> None:
    with pytest.raises(InputError, match=r"tied weights: under mup .* untie the weights"):
        prepare(spec("gpt2") | {"optimizer": {"name": "sgd", "momentum": 0.9}})
