"""Hugging Face configs as proxies: random init, nothing downloaded."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.build import build_proxy, proxy_shapes, read_model
from mutransfer_cli.proxies.example import Example
from mutransfer_cli.proxies.hf import UNMASKED
from mutransfer_cli.rules.plan import BaseValues, plan
from mutransfer_cli.rules.rule import Rule
from mutransfer_cli.spec.model import HfProtocol
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.ensemble import multipliers
from mutransfer_cli.train.execution import EAGER, allowed
from tests.conftest import CPU

transformers: Any = pytest.importorskip("transformers")

Prepare = Callable[[dict[str, Any]], Sweep]
Run = Callable[..., Any]

MODERN = {
    "hidden_size": 64,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
}
GPT2 = {"n_embd": 64, "n_head": 8, "n_layer": 2, "n_positions": 64, "vocab_size": 1000}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": MODERN,
    "mistral": MODERN | {"sliding_window": 8},
    "qwen3": MODERN,
    "gemma": {k: v for k, v in MODERN.items() if k != "tie_word_embeddings"},
    "gpt2": GPT2 | {"attn_pdrop": 0.2},
}
MODERN_ROLES = {
    "model.embed_tokens.weight": "embedding",
    "model.layers.N.self_attn.q_proj.weight": "hidden",
    "model.layers.N.self_attn.k_proj.weight": "hidden",
    "model.layers.N.self_attn.v_proj.weight": "hidden",
    "model.layers.N.self_attn.o_proj.weight": "hidden",
    "model.layers.N.mlp.gate_proj.weight": "hidden",
    "model.layers.N.mlp.up_proj.weight": "hidden",
    "model.layers.N.mlp.down_proj.weight": "hidden",
    "model.layers.N.input_layernorm.weight": "vector",
    "model.layers.N.post_attention_layernorm.weight": "vector",
    "model.norm.weight": "vector",
    "lm_head.weight": "readout",
}
ROLES: dict[str, dict[str, str]] = {
    "llama": MODERN_ROLES,
    "mistral": MODERN_ROLES,
    "gemma": MODERN_ROLES,
    "qwen3": MODERN_ROLES
    | {
        "model.layers.N.self_attn.q_norm.weight": "scalar",  # the scale of the fixed head size
        "model.layers.N.self_attn.k_norm.weight": "scalar",
    },
    "gpt2": {
        "transformer.wte.weight": "embedding",
        "transformer.wpe.weight": "embedding",
        "transformer.h.N.ln_1.weight": "vector",
        "transformer.h.N.ln_1.bias": "vector",
        "transformer.h.N.attn.c_attn.weight": "hidden",
        "transformer.h.N.attn.c_attn.bias": "vector",
        "transformer.h.N.attn.c_proj.weight": "hidden",
        "transformer.h.N.attn.c_proj.bias": "vector",
        "transformer.h.N.ln_2.weight": "vector",
        "transformer.h.N.ln_2.bias": "vector",
        "transformer.h.N.mlp.c_fc.weight": "hidden",
        "transformer.h.N.mlp.c_fc.bias": "vector",
        "transformer.h.N.mlp.c_proj.weight": "hidden",
        "transformer.h.N.mlp.c_proj.bias": "vector",
        "transformer.ln_f.weight": "vector",
        "transformer.ln_f.bias": "vector",
        "lm_head.weight": "readout",
    },
}


def hf_model(model_type: str, **changes: Any) -> HfProtocol:
    config = {"model_type": model_type, **CONFIGS[model_type], **changes}
    return HfProtocol(hf=config, untie=True, roles={}, vocab=256)


@pytest.fixture
def hf_spec(tiny: dict[str, Any], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def write(like: str, untie: bool = True, **changes: Any) -> dict[str, Any]:
        config = {"model_type": like, **CONFIGS[like], **changes}
        config = {key: value for key, value in config.items() if value is not None}
        (tmp_path / "config.json").write_text(json.dumps(config))
        tiny["sweep"]["widths"] = [16, 32]
        return tiny | {"model": {"hf": "config.json", "untie": untie}}

    return write


@pytest.mark.parametrize("model_type", CONFIGS)
def test_roles_are_those_of_a_reader_of_the_code(model_type: str) -> None:
    found = read_model(hf_model(model_type), 16, 16).base_plan
    expected = {
        name.replace("N", block): role
        for name, role in ROLES[model_type].items()
        for block in ("0", "1")
    }
    assert {p.name: p.role for p in found} == expected
    assert len(found) == len(expected), "each once"


@pytest.mark.parametrize("model_type", CONFIGS)
def test_at_the_base_width_it_is_the_plain_model(
    hf_spec: Callable[..., dict[str, Any]], prepare: Prepare, model_type: str
) -> None:
    sweep = prepare(hf_spec(model_type))
    model = sweep.model(16)
    planned = sweep.trial_plan(sweep.trials[16][0])
    assert [p.name for p in planned] == [name for name, _ in model.named_parameters()]
    assert {p.multiplier for p in planned} == {1.0}
    tokens = torch.randint(256, (2, 17), generator=torch.Generator().manual_seed(0))
    assert allowed(model, Example(tokens[:, :-1], 0), EAGER) == (EAGER, ""), "side by side"
    engine = sweep.trainer(16, DeviceText.on(CPU, sweep.corpus)).ensemble
    params = {name: p.detach()[None] for name, p in model.named_parameters()}
    found = engine.losses(params, multipliers(planned), tokens[None])
    logits = model(tokens[:, :-1]).logits
    expected = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    torch.testing.assert_close(found[0], expected)


def test_the_init_is_that_of_the_config() -> None:
    found = {
        p.name: p for p in read_model(hf_model("gpt2", initializer_range=0.1), 16, 16).base_plan
    }
    deep = found["transformer.h.1.mlp.c_proj.weight"]
    assert found["transformer.wte.weight"].init_std == pytest.approx(0.1, rel=0.05)
    assert deep.init_std == pytest.approx(0.1 / 2, rel=0.1), "1 / sqrt(2 * 2 blocks)"
    assert found["transformer.ln_f.weight"].init_mean == 1.0
    gemma = {p.name: p for p in read_model(hf_model("gemma"), 16, 16).base_plan}
    assert gemma["model.norm.weight"].init_mean == 0.0, "its gains count from 1"


def test_sizes_are_scaled_with_the_width() -> None:
    config: Any = build_proxy(hf_model("llama"), 16, 16, 48).config
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (6, 3, 8)
    assert (config.intermediate_size, config.num_hidden_layers) == (120, 2)
    assert (config.vocab_size, config.use_cache) == (256, False)
    one: Any = build_proxy(hf_model("llama", num_key_value_heads=1), 16, 16, 48).config
    assert (one.num_attention_heads, one.num_key_value_heads) == (6, 1), "fixed where no ratio is"
    gpt2: Any = build_proxy(hf_model("gpt2"), 16, 16, 48).config
    assert (gpt2.n_head, gpt2.attn_pdrop, gpt2.embd_pdrop) == (6, 0.0, 0.0)
    other: Any = build_proxy(hf_model("llama", attn_implementation="org/code"), 16, 16, 16).config
    assert other._attn_implementation == UNMASKED, "nothing is downloaded"
    wide: Any = build_proxy(hf_model("qwen3", head_dim=16), 16, 16, 48).config
    assert (wide.num_attention_heads, wide.head_dim) == (6, 16), "wider than hidden / heads"


def test_rounded_inner_sizes_have_the_rates_of_their_own_fan_in() -> None:
    """GPT-2's linear layers are transposed as well."""
    model = hf_model("gpt2", n_inner=102)
    base, shapes = read_model(model, 16, 16).base_plan, proxy_shapes(model, 16, 16, 48)
    values = BaseValues(lr=1.0, weight_decay=0.0, eps=None)
    found = {p.name: p for p in plan(base, Rule("mup"), 16, 48, values, shapes)}
    back, up = (found[f"transformer.h.0.mlp.{name}.weight"] for name in ("c_proj", "c_fc"))
    assert (back.shape, up.shape) == ((76, 48), (48, 76)), "26 at the base width"
    assert back.lr == pytest.approx(26 / 76)
    assert up.lr == pytest.approx(16 / 48)


def embedded(width: int, parameterization: Any) -> tuple[float, float]:
    """RMS of the input of Gemma's first block at init: by the plan, and by the model itself."""
    model = hf_model("gemma")
    base = read_model(model, 16, 16).base_plan
    values = BaseValues(lr=1.0, weight_decay=0.0, eps=None)
    planned = plan(base, Rule(parameterization), 16, width, values)
    embedding = next(p for p in planned if p.role == "embedding")
    proxy: Any = build_proxy(model, 16, 16, width)
    seen: list[torch.Tensor] = []
    proxy.model.layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    weight = proxy.model.embed_tokens.weight
    drawn = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    assert embedding.init_std is not None
    with torch.no_grad():
        weight.copy_(embedding.multiplier * embedding.init_std * drawn)
        proxy(torch.arange(256).view(16, 16))
        weight.copy_(embedding.init_std * drawn)
        proxy(torch.arange(256).view(16, 16))
    by_plan, plain = (float(x.square().mean().sqrt()) for x in seen)
    return by_plan, plain


def test_the_root_of_the_width_in_gemma_is_divided_out() -> None:
    for parameterization in ("mup", "standard"):
        sizes = {width: embedded(width, parameterization)[0] for width in (16, 64, 256)}
        assert max(sizes.values()) / min(sizes.values()) < 1.05, sizes
    at_base, plain_at_base = embedded(16, "standard")
    assert at_base == plain_at_base
    assert embedded(256, "standard")[1] > 3.5 * plain_at_base, "as it would be"


def test_folded_it_stays_divided_out() -> None:
    model = hf_model("gemma")
    base = read_model(model, 16, 16).base_plan
    values = BaseValues(lr=1.0, weight_decay=0.1, eps=1e-8)
    for parameterization in ("mup", "standard"):
        (plain, folded) = (
            next(
                p
                for p in plan(base, Rule(parameterization, folded=fold), 16, 64, values)
                if p.role == "embedding"
            )
            for fold in (False, True)
        )
        assert folded.multiplier == 1.0
        assert plain.init_std is not None
        assert folded.init_std == pytest.approx(plain.init_std * plain.multiplier)
        assert folded.lr == pytest.approx(plain.lr * plain.multiplier)


@pytest.mark.parametrize(
    ("model_type", "untie", "changes", "sentence"),
    [
        ("llama", True, {"max_position_embeddings": 8}, "context is 16 and .* 8; make"),
        (
            "llama",
            True,
            {"hidden_size": 192, "head_dim": 24},
            "width 16, .* no whole number of heads; use a multiple of 24",
        ),
        (
            "llama",
            True,
            {"hidden_size": 256, "num_attention_heads": 32, "num_key_value_heads": 4},
            "width 16, 2 heads, which 4 kv heads to 32 heads do not divide; .* multiples of 64",
        ),
        ("llama", True, {"model_type": "lama"}, "no causal LM of model_type lama; .* llama, "),
        ("llama", True, {"model_type": "t5"}, "no causal LM of model_type t5; .*factory: package"),
        ("llama", True, {"text_config": {"model_type": "qwen3"}}, 'text_config, .*type": "qwen3"'),
        ("llama", True, {"model_type": "bert"}, "bert depend on later tokens.*is_decoder"),
    ],
)
def test_configs_that_cannot_be_scaled(
    hf_spec: Callable[..., dict[str, Any]],
    prepare: Prepare,
    model_type: str,
    untie: bool,
    changes: dict[str, Any],
    sentence: str,
) -> None:
    with pytest.raises(InputError, match=sentence) as raised:
        prepare(hf_spec(model_type, untie, **changes))
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("{", "not JSON"), ("[]", "has no model_type"), ('{"hidden_size": 4}', "has no model_type")],
)
def test_files_that_are_no_config(
    tiny: dict[str, Any], prepare: Prepare, tmp_path: Path, text: str, sentence: str
) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=f"config.json: .*{sentence}"):
        prepare(tiny | {"model": {"hf": "config.json"}})


def test_without_transformers_the_command_that_installs_it_is_said(
    hf_spec: Callable[..., dict[str, Any]], prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"needs transformers; run `pip install transformers`"):
        prepare(hf_spec("llama"))


def test_a_config_is_swept_side_by_side(
    hf_spec: Callable[..., dict[str, Any]],
    write_spec: Callable[[Any], Path],
    run: Run,
    tmp_path: Path,
) -> None:
    spec = hf_spec("llama")
    spec["sweep"]["axes"]["lr"] = [0.004, 0.016, 0.064]
    result = run("sweep-proxy", write_spec(spec), "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert "batched" not in result.stderr
    assert "256 tokens as in the data, not 1000 as in the config" in result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    trials = [line for line in lines if line["kind"] == "trial"]
    assert [trial["status"] for trial in trials] == ["ok"] * 6
    assert {trial["group_size"] for trial in trials} == {3}
    assert lines[0]["protocol"]["model"]["hf"]["hidden_size"] == 64
