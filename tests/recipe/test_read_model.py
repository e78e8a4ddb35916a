"""The target model is read with its real names and sizes, without memory for its weights."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.recipe.build import build_recipe
from mutransfer_cli.recipe.loaded import load_recipe
from mutransfer_cli.recipe.read_model import named_model, read_target
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.spec.model import FactoryProtocol
from mutransfer_cli.spec.yaml_io import dump
from mutransfer_cli.sweep.prepare import Sweep
from tests.conftest import Result
from tests.proxies.test_hf import CONFIGS, ROLES
from tests.recipe.formats.conftest import executed
from tests.recipe.test_build import exponents

transformers: Any = pytest.importorskip("transformers")

Prepare = Callable[[dict[str, Any]], Sweep]
OWN = "tests.proxies.own_models:"


@pytest.fixture
def found(tiny: dict[str, Any], prepare: Prepare) -> Exponents:
    """A fit of the built-in proxy with base width 16."""
    tiny["optimizer"] = {"weight_decay": 0.1}
    return exponents(prepare(tiny))


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., str]:
    def write(model_type: str, **changes: Any) -> str:
        path = tmp_path / "config.json"
        untied = {"model_type": model_type, "tie_word_embeddings": False}
        path.write_text(json.dumps(CONFIGS[model_type] | untied | changes))
        return str(path)

    return write


def on_meta(path: str) -> nn.Module:
    with torch.device("meta"):
        model: nn.Module = transformers.AutoModelForCausalLM.from_config(
            transformers.AutoConfig.from_pretrained(path)
        )
    return model


def recipe_for(found: Exponents, name: str, width: int | None = None, **said: str) -> Any:
    model = read_target(name, width, said, found)
    recipe = build_recipe(found, Target(model.width, said, folded=True, model=model))
    return load_recipe(io.StringIO(dump(recipe)))


@pytest.mark.parametrize("model_type", CONFIGS)
def test_every_parameter_of_a_config_is_claimed_once_with_its_roles_values(
    found: Exponents, config: Callable[..., str], model_type: str
) -> None:
    path = config(model_type)
    model = on_meta(path)
    recipe = recipe_for(found, path)
    plan = {p.name: p for p in recipe.plan(model)}
    assert {name: p.shape for name, p in plan.items()} == {
        name: tuple(p.shape) for name, p in model.named_parameters()
    }
    roles = {name: ROLES[model_type][re.sub(r"\.\d\.", ".N.", name)] for name in plan}
    assert {name: p.role for name, p in plan.items()} == roles
    base = recipe.recipe.base_lr.value
    queries = 8**-0.5 if model_type in ("llama", "gemma") else 1  # 1/d_head over 1/sqrt(d_head)
    for name, p in plan.items():
        if p.role == "hidden":
            factor = queries if "q_proj" in name else 1
            assert p.lr == pytest.approx(factor * base / 4), "four times the base width"


def test_kv_heads_that_do_not_fit_the_base_width_do_not_matter(
    found: Exponents, config: Callable[..., str]
) -> None:
    model = read_target(config("llama", num_key_value_heads=2), None, {}, found)
    assert model.shapes["model.layers.0.self_attn.k_proj.weight"] == (16, 64)
    assert model.facts == {"depth": 2, "head_size": 8, "vocab": 1000}


def test_what_is_known_of_a_config_is_held_against_the_fit(
    found: Exponents, config: Callable[..., str]
) -> None:
    model = read_target(config("llama", num_hidden_layers=3), None, {}, found)
    warnings = build_recipe(found, Target(64, {}, model=model)).warnings
    assert any(
        w.startswith("depth: the fit was made under 1 and the target has 3") for w in warnings
    )
    assert any(w.startswith("vocab: the fit was made under 256") for w in warnings)
    said = build_recipe(found, Target(64, {"depth": "1"}, model=model)).warnings
    assert not any(w.startswith("depth") for w in said), "what is said counts"


def test_a_rounded_inner_size_has_a_rate_by_its_own_fan_in(found: Exponents) -> None:
    """From width 16 to 64 the inner size grows five times, 32 to 160, and the width four times."""
    recipe = recipe_for(found, f"{OWN}rounded_mlp", 64)
    from tests.proxies.own_models import rounded_mlp

    plan = {p.name: p for p in recipe.plan(rounded_mlp(64, 256))}
    base = recipe.recipe.base_lr.value
    assert plan["up.weight"].lr == pytest.approx(base / 4)
    assert plan["down.weight"].lr == pytest.approx(base / 5)
    assert plan["down.weight"].weight_decay == pytest.approx(0.5)
    hidden = recipe.recipe.roles["hidden"]
    assert [p.own is not None for p in hidden.parameters] == [False, False, True]
    assert hidden.parameters[2].own.lr.source == "base_lr * 5^-1"


@pytest.fixture
def path(found: Exponents, tmp_path: Path) -> Path:
    path = tmp_path / "exponents.yaml"
    path.write_text(dump(found))
    return path


@pytest.mark.parametrize("to", ["pytorch", "transformers"])
def test_emitted_python_takes_the_models_own_names(
    run: Callable[..., Result], path: Path, config: Callable[..., str], to: str
) -> None:
    name = config("qwen3")
    args = ("transfer", path, "--model", name, "--to", to, "--fold")
    if to == "transformers":
        refused = run(*args)
        assert refused.exit_code == 6, "queries are normalised"
        assert "cannot hold: attention scale 1/d_head" in refused.stderr
    result = run(*args, "--allow-lossy")
    assert result.exit_code == 0, result.stderr
    python, model = (
        executed(result.stdout),
        transformers.AutoModelForCausalLM.from_config(
            transformers.AutoConfig.from_pretrained(name)
        ),
    )
    assert python["PATTERNS"][r"^model\.layers\.\d+\.self_attn\.q_norm\.weight$"] == "scalar"
    told = {"attention_scale": "in_model"} if to == "pytorch" else {}
    groups = python["param_groups"](model, **told)
    sizes = {group["role"]: len(group["params"]) for group in groups}
    assert sizes == {"embedding": 1, "readout": 1, "vector": 5, "scalar": 4, "hidden": 14}
    python["init_"](model, **told)
    assert model.model.norm.weight.mean() == 1, "gains stay around 1"


def test_emitted_groups_of_own_fan_in(run: Callable[..., Result], path: Path) -> None:
    result = run("transfer", path, "--model", f"{OWN}rounded_mlp", "--width", 64, "--to", "pytorch")
    python = executed(result.stdout)
    groups = python["GROUPS"]
    assert groups["hidden"]["lr"] == pytest.approx(groups["hidden_2"]["lr"] * 5 / 4, rel=1e-5)
    assert python["OPTIMIZERS"]["hidden_2"] is torch.optim.AdamW
    assert python["PATTERNS"][r"^down\.weight$"] == "hidden_2"


def test_automodel_finds_a_configs_names_through_wrappers(
    run: Callable[..., Result], path: Path, config: Callable[..., str]
) -> None:
    name = config("qwen3")
    args = ("--to", "nemo-automodel", "--allow-lossy")
    text = run("transfer", path, "--model", name, *args).stdout
    overrides = yaml.safe_load(text)["optimizer"]["param_group_overrides"]
    found: dict[str, int] = {}
    for parameter, _ in on_meta(name).named_parameters():
        wrapped = parameter.replace("layers.0.", "layers.0._checkpoint_wrapped_module.")
        hits = [o["pattern"] for o in overrides if re.search(o["pattern"], wrapped)]
        assert len(hits) == (ROLES["qwen3"][re.sub(r"\.\d\.", ".N.", parameter)] != "hidden")
        found |= {pattern: found.get(pattern, 0) + 1 for pattern in hits}
    assert sorted(found.values()) == [1, 1, 4, 5]


def test_trainers_of_their_own_llama_take_only_that(
    run: Callable[..., Result], path: Path, config: Callable[..., str]
) -> None:
    llama = run("transfer", path, "--model", config("llama"), "--to", "torchtitan")
    assert llama.exit_code == 0, llama.stderr
    assert "absolute, for width 64" in llama.stdout
    other = run("transfer", path, "--model", config("gpt2"), "--to", "torchtitan")
    assert other.exit_code == 6
    assert "written for the names of its own Llama" in other.stderr


def test_a_section_of_a_spec_is_a_target_too(
    run: Callable[..., Result], path: Path, tmp_path: Path
) -> None:
    section = tmp_path / "target.yaml"
    section.write_text(f"factory: {OWN}token_mlp\nroles: {{up.weight: hidden}}\n")
    result = run("transfer", path, "--model", section, "--width", 32)
    assert result.exit_code == 0, result.stderr
    assert r"^up\.weight$" in result.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "--width is missing: give the target's width, or the target with --model"),
        (("--model", "nothing.json"), "nothing.json: cannot be read"),
        (("--model", f"{OWN}token_mlp"), "is a function of width; give its width too (--width)"),
        (("--model", f"{OWN}no_such", "--width", 32), "has no function no_such"),
        (("--model", f"{OWN}stays", "--width", 32), "the model does not grow"),
        (("--model", f"{OWN}other_names", "--width", 32), "hold different parameters"),
        (("--model", f"{OWN}without_width", "--width", 32), "it needs a parameter named width"),
        (("--model", "CONFIG", "--width", 128), "has hidden_size 64; leave one of them out"),
        (("--model", "SPEC"), "is neither a config.json of a causal LM nor a `model`"),
    ],
)
def test_what_is_no_target_is_refused(
    run: Callable[..., Result],
    path: Path,
    config: Callable[..., str],
    tmp_path: Path,
    args: tuple[object, ...],
    message: str,
) -> None:
    (tmp_path / "mine.yaml").write_text("colour: blue")
    real = {"CONFIG": config("llama"), "SPEC": str(tmp_path / "mine.yaml")}
    result = run("transfer", path, *(real.get(str(arg), arg) for arg in args))
    assert result.exit_code == 2, result.stderr
    assert message in result.stderr


def test_without_a_protocol_there_is_no_rule_for_a_model(found: Exponents) -> None:
    unknown = found.model_copy(update={"protocol": None, "base_plan": ()})
    with pytest.raises(InputError, match="the exponents hold no protocol"):
        read_target(f"{OWN}token_mlp", 32, {}, unknown)


def test_a_tied_config_is_refused_with_what_to_do(
    found: Exponents, config: Callable[..., str]
) -> None:
    tied = read_target(config("gemma", tie_word_embeddings=True), None, {}, found)
    sentence = "embed_tokens.weight: is embedding and readout, and the fitted .*untie the target"
    with pytest.raises(InputError, match=sentence):
        build_recipe(found, Target(tied.width, {}, model=tied))


def test_a_function_takes_what_its_own_proxies_were_given(tmp_path: Path) -> None:
    swept = FactoryProtocol(
        factory=f"{OWN}tied_moe", args={"base": 8}, roles={"a.*": "hidden"}, vocab=7
    )
    sizes = {"vocab": 256, "context": 16}
    same = named_model(f"{OWN}tied_moe", sizes, swept)
    assert (same.protocol.roles, same.protocol.vocab, same.context) == (swept.roles, 256, 16)
    assert isinstance(same.protocol, FactoryProtocol)
    assert same.protocol.args == {"base": 8}
    other = named_model(f"{OWN}token_mlp", sizes, swept)
    assert isinstance(other.protocol, FactoryProtocol)
    assert (other.protocol.args, other.protocol.roles) == ({}, {})


def test_the_sizes_of_a_function_are_its_args_otherwise_those_of_the_fit(tmp_path: Path) -> None:
    section = tmp_path / "target.yaml"
    section.write_text(f"factory: {OWN}token_mlp\nargs: {{vocab: 100}}\n")
    target = named_model(str(section), {"vocab": 256, "context": 16})
    assert (target.protocol.vocab, target.context) == (100, 16)
    with pytest.raises(InputError, match=r"its context is not known; give it as args: {context: N"):
        named_model(str(section), {"vocab": 256, "context": None})


@pytest.mark.parametrize("key", ["vocab_size", "hidden_size"])
def test_a_config_without_a_size_is_refused(
    found: Exponents, config: Callable[..., str], key: str
) -> None:
    with pytest.raises(InputError, match=f"has no {key}; give the config of the target"):
        read_target(config("llama", **{key: None}), None, {}, found)


LLAMA_3_70B = {
    "model_type": "llama",
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "num_hidden_layers": 80,
    "max_position_embeddings": 8192,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}
PLAN_70B = """
import json, math, resource, sys, time
from pathlib import Path
from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.strict import validated
from mutransfer_cli.spec.yaml_io import load_yaml
from mutransfer_cli.recipe.read_model import read_target
import torch, transformers, transformers.models.llama.modeling_llama
torch.randn(1, device="meta")
document = validated(Exponents, load_yaml(Path(sys.argv[1]).read_text(), "fit"), "fit")
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
model = read_target(sys.argv[2], None, {}, document)
took, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
size = sum(math.prod(shape) for shape in model.shapes.values())
print(json.dumps({"seconds": took, "bytes": (after - before) * 1024, "parameters": size,
                  "planned": len(model.base_plan)}))
"""


@pytest.mark.slow
def test_seventy_billion_parameters_are_planned_without_their_memory(
    tiny: dict[str, Any], prepare: Prepare, tmp_path: Path
) -> None:
    tiny["parameterization"]["base_width"] = 256
    fit, config = tmp_path / "exponents.yaml", tmp_path / "config.json"
    fit.write_text(dump(exponents(prepare(tiny))))
    config.write_text(json.dumps(LLAMA_3_70B))
    command = [sys.executable, "-c", PLAN_70B, str(fit), str(config)]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    assert found["parameters"] > 70e9
    assert found["planned"] == 80 * 9 + 3
    assert found["seconds"] < 5
    assert found["bytes"] < 1e9
