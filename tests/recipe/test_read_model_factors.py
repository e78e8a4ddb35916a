"""Targets whose own code scales them, by fields of their config."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.recipe.read_model import read_target
from mutransfer_cli.spec.protocol import DeclaredProtocol
from mutransfer_cli.sweep.prepare import Sweep
from tests.proxies.test_hf import MODERN
from tests.recipe.test_build import exponents

transformers: Any = pytest.importorskip("transformers")

Prepare = Callable[[dict[str, Any]], Sweep]

NEUTRAL = 8**-0.5  # MODERN has heads of 8
GRANITE = {
    "model_type": "granite",
    "attention_multiplier": 0.125,
    "embedding_multiplier": 12.0,
    "residual_multiplier": 0.22,
    "logits_scaling": 8.0,
}
DECLARED = {
    "schema": "mutransfer.protocol/1",
    "parameterization": {"name": "mup", "base_width": 16},
    "optimizer": {"name": "adamw"},
    "train": {"batch": 2, "steps": 10},
    "model": {"init_std": {"embedding": 1.0, "hidden": 0.02, "readout": 0.02}},
}


@pytest.fixture
def found(tiny: dict[str, Any], prepare: Prepare) -> Exponents:
    """A fit of the built-in proxy with base width 16."""
    return exponents(prepare(tiny))


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., str]:
    def write(**fields: Any) -> str:
        path = tmp_path / "target.json"
        path.write_text(json.dumps(MODERN | fields))
        return str(path)

    return write


@pytest.fixture
def of_granite(tiny: dict[str, Any], prepare: Prepare, tmp_path: Path) -> Callable[..., Exponents]:
    """Fit a sweep of a Granite."""

    def fit(**fields: Any) -> Exponents:
        (tmp_path / "config.json").write_text(json.dumps(MODERN | GRANITE | fields))
        tiny["model"] = {"hf": "config.json"}
        tiny["sweep"]["widths"] = [16, 32]
        return exponents(prepare(tiny))

    return fit


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"model_type": "llama", "mup": True}, "(mup true)"),
        ({"model_type": "llama", "use_mup": True}, "(use_mup true)"),
        ({"model_type": "llama", "mup_base_width": 64}, "off in the config of the target (mup_bas"),
        ({"model_type": "minicpm3"}, "off in the config of the target (dim_model_base 64)"),
        ({"model_type": "afmoe", "mup_enabled": True}, "off in the config of the target (mup_ena"),
    ],
)
def test_a_target_that_scales_with_width_is_refused(
    found: Exponents, config: Callable[..., str], fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError) as error:
        read_target(config(**fields), None, {}, found)
    assert "rates, init or logits would scale twice" in str(error.value)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (GRANITE, "(embedding_multiplier 12, residual_multiplier 0.22, logits_scaling 8, attenti"),
        ({"model_type": "granite"}, "(attention_multiplier 1) otherwise than the fitted models"),
        ({"model_type": "falcon_h1", "key_multiplier": 0.4}, "(key_multiplier 0.4)"),
        (
            {"model_type": "falcon_h1", "mlp_multipliers": [0.5, 2.0]},
            "(mlp_multipliers [0.5, 2.0]) otherwise than the fitted models (mlp_multipliers [1.0",
        ),
        ({"model_type": "cohere"}, "otherwise than the fitted models (logit_scale 1)"),
        (
            {"model_type": "minicpm3", "dim_model_base": None},
            "(scale_emb 12, scale_depth 1.4) otherwise than the fitted models (scale_emb 1, scale_",
        ),
        ({"model_type": "gemma2", "query_pre_attn_scalar": 16}, "(query_pre_attn_scalar 16)"),
    ],
)
def test_factors_that_the_fitted_models_lack_are_refused(
    found: Exponents, config: Callable[..., str], fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError) as error:
        read_target(config(**fields), None, {}, found)
    assert "it is another function, and their best rates and init are not its own" in str(
        error.value
    )
    assert said in str(error.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"model_type": "llama", "mup": False, "mup_base_width": 32},
        {"model_type": "granite", "attention_multiplier": NEUTRAL},
        {"model_type": "cohere", "logit_scale": 1.0},
    ],
)
def test_neutral_factors_are_the_plain_model(
    found: Exponents, config: Callable[..., str], fields: dict[str, Any]
) -> None:
    assert read_target(config(**fields), None, {}, found).own_factors == {}


def test_a_target_may_have_the_factors_of_its_own_proxies(
    of_granite: Callable[..., Exponents], config: Callable[..., str]
) -> None:
    found = of_granite()
    target = read_target(config(**GRANITE), None, {}, found)
    assert target.own_factors == {k: v for k, v in GRANITE.items() if k != "model_type"}
    for other in (GRANITE | {"residual_multiplier": 0.3}, {"model_type": "llama"}):
        with pytest.raises(InputError, match="otherwise than the fitted models"):
            read_target(config(**other), None, {}, found)


def test_declared_runs_are_taken_to_have_the_targets_factors(
    found: Exponents, config: Callable[..., str]
) -> None:
    declared = DeclaredProtocol.model_validate(DECLARED)
    own_runs = found.model_copy(update={"protocol": declared, "base_plan": ()})
    notes: list[str] = []
    target = read_target(config(**GRANITE), None, {}, own_runs, notes.append)
    assert target.own_factors["logits_scaling"] == 8.0
    assert any(
        "its own code scales activations (embedding_multiplier 12," in n
        and "the fitted runs are taken to have had the same factors" in n
        for n in notes
    )
    with pytest.raises(InputError, match="would scale twice"):
        read_target(config(**GRANITE, mup=True), None, {}, own_runs)
