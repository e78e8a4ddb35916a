"""The emitted file for a target's own config, and for runs whose protocol was declared."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from mutransfer_cli.errors import NotExpressible
from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.recipe.formats.dispatch import Emitted, emit
from mutransfer_cli.recipe.read_model import read_target
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.spec.yaml_io import load_yaml
from mutransfer_cli.strict import validated
from tests.conftest import Result
from tests.proxies.test_hf import CONFIGS, MODERN
from tests.recipe.formats.conftest import LR, QUERY, Document, executed, written

transformers: Any = pytest.importorskip("transformers")

To = Callable[..., Emitted]
WIDTH = 64  # of the configs, four times the base width
UNUSUAL = "cannot hold: attention scale 1/d_head"
USUAL = {"attention_scale": "1/sqrt(d_head)"}


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., str]:
    """Write a config and return its path; attention in it is torch's own."""

    def write(model_type: str, **fields: Any) -> str:
        path, untied = tmp_path / "config.json", {"tie_word_embeddings": False}
        found = {"model_type": model_type} | CONFIGS.get(model_type, MODERN) | untied | fields
        path.write_text(json.dumps(found))
        return str(path)

    return write


def for_config(
    found: Exponents, path: str, to: str = "transformers", allow_lossy: bool = False
) -> Emitted:
    model = read_target(path, None, {}, found)
    return emit(found, Target(model.width, {}, model=model), to, allow_lossy)


def built(path: str) -> Any:
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.from_pretrained(path)
    )


def groups_by_name(emitted: dict[str, Any], model: Any) -> dict[str, dict[str, Any]]:
    groups = {id(p): g for g in emitted["optimizer"](model).param_groups for p in g["params"]}
    return {name: groups[id(parameter)] for name, parameter in model.named_parameters()}


def has_std(parameter: torch.Tensor, std: float) -> bool:
    chance = 5 / math.sqrt(2 * parameter.numel())
    return parameter.std().item() == pytest.approx(std, rel=chance)


def test_a_config_and_a_width_alone_give_the_same_values(
    document: Document, config: Callable[..., str]
) -> None:
    found, path = document(optimizer={"weight_decay": 0.1}), config("llama")
    by_name = executed(for_config(found, path).text)
    by_kind = executed(emit(found, Target(WIDTH, {}), "transformers").text)
    one, other = (groups_by_name(emitted, built(path)) for emitted in (by_name, by_kind))
    for name in one:
        for key in ("lr", "weight_decay", "eps", "betas"):
            assert one[name][key] == pytest.approx(other[name][key], rel=1e-12), name
    stds = []
    for emitted in (by_name, by_kind):
        model = built(path)
        torch.manual_seed(1)
        emitted["init_"](model)
        stds.append({name: p.std().item() for name, p in model.named_parameters()})
    assert stds[0] == pytest.approx(stds[1], rel=1e-5), "same draws, same stds"


@pytest.mark.parametrize("model_type", ["gpt2", "qwen3"])
def test_queries_that_cannot_take_the_scale_are_refused(
    document: Document, config: Callable[..., str], model_type: str
) -> None:
    """One matrix makes queries, keys and values in GPT-2; Qwen3 normalises queries."""
    found, path = document(), config(model_type)
    with pytest.raises(NotExpressible, match=UNUSUAL):
        for_config(found, path)
    lossy = for_config(found, path, allow_lossy=True)
    assert "# DROPPED, set it by hand: attention scale 1/d_head" in lossy.text


def test_stds_of_gpt2_go_by_its_own_input_axis(
    document: Document, config: Callable[..., str]
) -> None:
    path = config("gpt2", initializer_range=0.4)
    emitted, model = executed(for_config(document(model=USUAL), path).text), built(path)
    emitted["init_"](model)
    block = model.transformer.h[1]
    assert has_std(model.transformer.wte.weight, 1.0)
    assert has_std(block.attn.c_attn.weight, 64**-0.5), "[64, 192]: in, out"
    assert has_std(block.mlp.c_fc.weight, 64**-0.5), "[64, 256]"
    assert has_std(block.mlp.c_proj.weight, 256**-0.5), "[256, 64]"
    assert has_std(model.lm_head.weight, 16**-0.5 / 4), "folded multiplier of 1 / 4"
    assert (block.ln_1.weight == 1).all()
    assert (block.attn.c_attn.bias == 0).all()
    assert groups_by_name(emitted, model)["transformer.h.1.mlp.c_proj.weight"]["lr"] == LR / 4


def test_a_factor_of_the_models_own_code_is_taken_out_of_the_weight(
    document: Document, config: Callable[..., str]
) -> None:
    """Gemma multiplies embeddings by sqrt(width)."""
    found, path = document(optimizer={"weight_decay": 0.1}), config("gemma")
    emitted, model = executed(for_config(found, path).text), built(path)
    emitted["init_"](model)
    embedding = groups_by_name(emitted, model)["model.embed_tokens.weight"]
    assert has_std(model.model.embed_tokens.weight, 1 / 8), "times 8, std 1 as in the proxies"
    assert embedding["lr"] * 8 == pytest.approx(LR), "times 8, the rate as in the proxies"


def test_biases_of_queries_take_the_scale_too(
    document: Document, config: Callable[..., str]
) -> None:
    found, path = document(optimizer={"weight_decay": 0.1}), config("qwen2")
    emitted, model = executed(for_config(found, path).text), built(path)
    emitted["init_"](model)
    groups, block = groups_by_name(emitted, model), "model.layers.1.self_attn."
    assert has_std(model.model.layers[1].self_attn.q_proj.weight, QUERY * 64**-0.5)
    assert has_std(model.model.layers[1].self_attn.k_proj.weight, 64**-0.5)
    rates = {name: groups[f"{block}{name}"]["lr"] for name in ("q_proj.weight", "q_proj.bias")}
    assert rates == pytest.approx({"q_proj.weight": LR / 4 * QUERY, "q_proj.bias": LR * QUERY})
    assert groups[f"{block}k_proj.bias"]["lr"] == pytest.approx(LR)
    eps = {name: groups[f"{block}{name}"]["eps"] for name in ("q_proj.bias", "k_proj.bias")}
    assert eps["q_proj.bias"] == pytest.approx(eps["k_proj.bias"] / QUERY)


def test_a_model_has_the_factors_of_the_fit(
    tiny: dict[str, Any], document: Document, config: Callable[..., str]
) -> None:
    granite = {"attention_multiplier": 0.125, "residual_multiplier": 0.22, "logits_scaling": 8.0}
    path = config("granite", **granite)
    tiny["model"], tiny["sweep"]["widths"] = {"hf": path}, [16, 32]
    found = document()
    same = built(path)
    files = (for_config(found, path).text, written(found, "transformers"))
    others = [
        built(config("granite", **granite | {"residual_multiplier": 0.3})),
        built(config("llama")),
    ]
    for emitted in map(executed, files):
        assert emitted["FITTED_FACTORS"] == granite
        assert len(emitted["optimizer"](same).param_groups) > 1
        for other in others:
            with pytest.raises(ValueError, match=r"config.\w+ is .* and was .* in the fit"):
                emitted["optimizer"](other)


@pytest.fixture
def declared(run: Callable[..., Result], tmp_path: Path) -> Callable[..., Exponents]:
    """Fit a table of own results by the commands; keywords are of the protocol's model."""
    random = np.random.default_rng(0)
    rows = [
        {"width": w, "lr": 2.0**x, "loss": 3 + 0.02 * (x + 6) ** 2 + random.normal(0, 0.001)}
        for w in (16, 32, 64, 128)
        for x in np.arange(-9.0, -3.0, 0.5)
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "runs.csv", index=False)

    def fit(**model: Any) -> Exponents:
        protocol = {
            "schema": "mutransfer.protocol/1",
            "parameterization": {"name": "mup", "base_width": 16},
            "optimizer": {"name": "adamw", "weight_decay": 0},
            "train": {"batch": 32, "steps": 1000},
            "model": model,
        }
        (tmp_path / "protocol.yaml").write_text(yaml.safe_dump(protocol))
        options = ("--protocol", tmp_path / "protocol.yaml")
        result = run("fit-exponents", tmp_path / "runs.csv", *options)
        assert result.exit_code == 0, result.stderr
        return validated(Exponents, load_yaml(result.stdout, "fit"), "fit")

    return fit


@pytest.mark.parametrize("to", ["transformers", "pytorch"])
def test_declared_runs_of_unknown_init_have_none(
    declared: Callable[..., Exponents], config: Callable[..., str], to: str
) -> None:
    found = declared()
    for model in (None, read_target(config("llama"), None, {}, found)):
        with pytest.raises(NotExpressible, match=r"init stds .*declare model.init_std"):
            emit(found, Target(64, {}, model=model), to)
        emitted = emit(found, Target(64, {}, model=model), to, allow_lossy=True)
        assert "# DROPPED, set it by hand: init stds" in emitted.text
        assert not {"INIT", "init_"} & set(executed(emitted.text))


@pytest.mark.parametrize("to", ["transformers", "pytorch"])
def test_declared_inits_are_absolute(
    declared: Callable[..., Exponents], config: Callable[..., str], to: str
) -> None:
    found = declared(init_std={"embedding": 0.5, "hidden": 0.1, "readout": 0.2})
    path = config("llama", initializer_range=0.9)
    for emitted in (emit(found, Target(64, {}, True), to), for_config(found, path, to)):
        names, model = executed(emitted.text), built(path)
        told = {"multipliers": "in_model"} if to == "pytorch" else {}
        names["init_"](model, **told)
        assert has_std(model.model.layers[0].self_attn.k_proj.weight, 0.1 / 2)
        assert has_std(model.model.layers[0].mlp.down_proj.weight, 0.1 / 2)
        multiplier = names["multipliers"]["readout"] if to == "pytorch" else 1
        assert has_std(model.lm_head.weight, 0.2 / 4 / multiplier), "1 / 4 from both together"
