"""Targets whose heads and layers differ from those of their proxies."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.recipe.build import build_recipe
from mutransfer_cli.recipe.read_model import named_model, read_target
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.spec.model import HfProtocol, HfSizes
from mutransfer_cli.sweep.prepare import Sweep
from tests.proxies.test_hf import CONFIGS, ROLES
from tests.recipe.test_build import exponents

pytest.importorskip("transformers")

Prepare = Callable[[dict[str, Any]], Sweep]
SMALL = {"head_size": 4, "depth": 1, "kv_group": 4}


@pytest.fixture
def fitted(
    tiny: dict[str, Any], tmp_path: Path, prepare: Prepare
) -> Callable[..., tuple[Exponents, str]]:
    """A fit of a config's proxies with other heads and layers, and the config's path."""

    def fit(model_type: str, **changes: Any) -> tuple[Exponents, str]:
        path = tmp_path / "config.json"
        config = {"model_type": model_type, **CONFIGS[model_type], **changes}
        path.write_text(json.dumps(config))
        tiny["sweep"]["widths"] = [16, 32]
        model = {"hf": "config.json", "untie": True, **SMALL}
        return exponents(prepare(tiny | {"model": model})), str(path)

    return fit


def test_the_changes_are_recorded_and_held_against_the_target(
    fitted: Callable[..., tuple[Exponents, str]],
) -> None:
    found, path = fitted("qwen3")
    protocol: Any = found.protocol
    assert protocol.model.sizes == HfSizes(**SMALL)
    assert protocol.model.model_dump(mode="json")["sizes"] == SMALL
    model = read_target(path, None, {}, found)
    recipe = build_recipe(found, Target(64, {}, model=model))
    assert recipe.holds_for is not None
    assert (recipe.holds_for.depth, recipe.holds_for.head_size) == (1, 4)
    said = "; ".join(recipe.warnings)
    assert "depth: the fit was made under 1 and the target has 2" in said
    assert "head_size: the fit was made under 4 and the target has 8" in said


def test_roles_are_those_of_widths_alone(
    fitted: Callable[..., tuple[Exponents, str]],
) -> None:
    """The norms of heads are larger in the target, whose heads are, but not by its width."""
    found, path = fitted("qwen3")
    model = read_target(path, None, {}, found)
    roles = {p.name: ROLES["qwen3"][re.sub(r"\.\d\.", ".N.", p.name)] for p in model.base_plan}
    assert {p.name: p.role for p in model.base_plan} == roles
    norm = "model.layers.1.self_attn.q_norm.weight"
    assert next(p.shape for p in model.base_plan if p.name == norm) == (4,)
    assert model.shapes[norm] == (8,)
    assert model.shapes["model.layers.1.self_attn.k_proj.weight"] == (32, 64)


@pytest.mark.parametrize(
    ("model_type", "changes", "scale"),
    [
        ("llama", {}, 8**-0.5),
        ("gemma3_text", {"query_pre_attn_scalar": 2}, 2**-0.5),
    ],
)
def test_the_attention_scale_is_that_of_the_targets_heads(
    fitted: Callable[..., tuple[Exponents, str]],
    model_type: str,
    changes: dict[str, Any],
    scale: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(CONFIGS, "gemma3_text", CONFIGS["gemma"] | {"sliding_window": 64})
    found, path = fitted(model_type, **changes)
    assert read_target(path, None, {}, found).attention == pytest.approx(scale)


def test_a_target_may_have_such_changes_itself(
    fitted: Callable[..., tuple[Exponents, str]], tmp_path: Path
) -> None:
    found, _ = fitted("llama")
    section = tmp_path / "target.yaml"
    section.write_text("hf: config.json\nhead_size: 4\ndepth: 1\nkv_group: 4\n")
    model = read_target(str(section), None, {}, found)
    assert model.facts == {"depth": 1, "head_size": 4, "vocab": 1000}
    assert model.shapes["model.layers.0.self_attn.k_proj.weight"] == (16, 64)
    warnings = build_recipe(found, Target(64, {}, model=model)).warnings
    assert not any(w.startswith(("depth", "head_size")) for w in warnings)


def test_protocols_without_changes_are_written_as_before(tmp_path: Path) -> None:
    config = {"model_type": "llama"} | CONFIGS["llama"]
    model = HfProtocol(hf=config, untie=False, roles={}, vocab=256)
    assert set(model.model_dump()) == {"hf", "untie", "roles", "vocab"}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    target = named_model(str(path), {"vocab": None, "context": None})
    assert target.protocol.model_dump().keys() == model.model_dump().keys()


def test_changes_are_counts(tiny: dict[str, Any], prepare: Prepare, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"} | CONFIGS["llama"]))
    with pytest.raises(InputError, match=r"model.head_size: expected at least 1"):
        prepare(tiny | {"model": {"hf": "config.json", "head_size": 0}})
    with pytest.raises(InputError, match="unknown key 'heads_size'; did you mean 'head_size'"):
        prepare(tiny | {"model": {"hf": "config.json", "heads_size": 8}})
