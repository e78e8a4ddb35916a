"""Each target's own way to find parameters, applied to the names of its Llama."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.recipe.formats.megatron import PATTERNS as MEGATRON
from tests.recipe.formats.conftest import LR, Document, executed, keeps, written

# by role: of a model with two blocks, as each framework names them
NAMES: dict[str, dict[str, list[str]]] = {
    "torchtitan": {
        "embedding": ["tok_embeddings.weight"],
        "readout": ["lm_head.weight"],
        "vector": [
            "norm.weight",
            *(f"layers.{n}.{x}_norm.weight" for n in (0, 11) for x in ("attention", "ffn")),
            "layers.0._checkpoint_wrapped_module.ffn_norm.weight",
        ],
        "query": [
            "layers.11.attention.qkv_linear.wq.weight",
            "layers.0._checkpoint_wrapped_module.attention.qkv_linear.wq.weight",
        ],
        "hidden": [
            *(f"layers.11.attention.{x}.weight" for x in ("qkv_linear.wk", "qkv_linear.wv", "wo")),
            *(f"layers.0.feed_forward.w{n}.weight" for n in (1, 2, 3)),
        ],
    },
    "olmo-core": {
        "embedding": ["embeddings.weight"],
        "readout": ["lm_head.w_out.weight"],
        "vector": [
            "lm_head.norm.weight",
            *(
                f"blocks.{n}.{x}_norm.weight"
                for n in (0, 11)
                for x in ("attention", "feed_forward")
            ),
        ],
        "query": ["blocks.11.attention.w_q.weight"],
        "hidden": [
            *(f"blocks.11.attention.w_{x}.weight" for x in ("k", "v", "out")),
            *(f"blocks.0.feed_forward.w{n}.weight" for n in (1, 2, 3)),
        ],
    },
    "nemo-automodel": {
        "embedding": ["model.embed_tokens.weight"],
        "readout": ["lm_head.weight"],
        "vector": [
            "model.norm.weight",
            "model.layers.0.input_layernorm.weight",
            "model.layers.11.post_attention_layernorm.weight",
            "model.layers.0.input_layernorm._checkpoint_wrapped_module.weight",
        ],
        "hidden": [
            *(f"model.layers.11.self_attn.{x}_proj.weight" for x in "qkvo"),
            *(f"model.layers.0.mlp.{x}_proj.weight" for x in ("gate", "up", "down")),
        ],
    },
    "megatron": {
        "embedding": ["module.module.embedding.word_embeddings.weight"],
        "readout": ["module.module.output_layer.weight"],
        "vector": [
            "decoder.final_layernorm.weight",
            "module.module.decoder.layers.0.self_attention.linear_qkv.layer_norm_weight",
            "module.decoder.layers.11.mlp.linear_fc1.layer_norm_weight",
            "module.decoder.layers.11.input_layernorm.weight",
        ],
        "hidden": [
            *(f"decoder.layers.0.self_attention.linear_{x}.weight" for x in ("qkv", "proj")),
            *(f"module.decoder.layers.11.mlp.linear_fc{n}.weight" for n in (1, 2)),
        ],
    },
}
QUERY = 8**-0.5  # 1/d_head over the target's 1/sqrt(d_head), heads of 8
# mup at 16 times the base width, folded: (rate, lr-coupled decay) for a base decay of 0.1
EXPECTED = {
    "embedding": (LR, 0.0),
    "readout": (LR / 16, 1.6),
    "vector": (LR, 0.0),
    "hidden": (LR / 16, 1.6),
    "query": (LR / 16 * QUERY, 1.6 / QUERY),
}


def torchtitan(text: str, names: list[str], paper: Any) -> Iterator[tuple[str, float, float]]:
    config = SimpleNamespace(Config=keeps)
    classes = {"OptimizersContainer": config, "LRSchedulersContainer": config}
    paper("torchtitan.components.optimizer", ParamGroupConfig=keeps, **classes)
    claimed: set[str] = set()
    for group in executed(text)["OPTIMIZER"].param_groups:
        found = [n for n in names if n not in claimed and re.search(group.pattern, n)]
        assert found, "a pattern that claims nothing is an error there"
        claimed |= set(found)
        keywords = group.optimizer_kwargs
        assert set(keywords) == {"lr", "weight_decay", "betas", "eps"}, "nothing is inherited"
        yield from ((name, keywords["lr"], keywords["weight_decay"]) for name in found)


def olmo_core(text: str, names: list[str], paper: Any) -> Iterator[tuple[str, float, float]]:
    schedulers = dict.fromkeys(("LinearWithWarmup", "CosWithWarmup"), keeps)
    paper("olmo_core.optim", AdamWConfig=keeps, OptimGroupOverride=keeps, **schedulers)
    config = executed(text)["OPTIM"]
    claimed: set[str] = set()
    for override in config.group_overrides:
        for glob in override.params:
            found = [name for name in names if fnmatch(name, glob)]
            assert found, "a glob that matches nothing is an error there"
            claimed |= set(found)
            yield from ((n, override.opts["lr"], override.opts["weight_decay"]) for n in found)
    rest = [name for name in names if name not in claimed]
    yield from ((name, config.lr, config.weight_decay) for name in rest)


def nemo_automodel(text: str, names: list[str], paper: Any) -> Iterator[tuple[str, float, float]]:
    optimizer = yaml.safe_load(text)["optimizer"]
    for name in names:
        lr_mult = wd_mult = 1.0
        for override in optimizer["param_group_overrides"]:
            if re.search(override["pattern"], name):
                lr_mult, wd_mult = override["lr_mult"], override["wd_mult"]
                break
        yield name, optimizer["lr"] * lr_mult, optimizer["weight_decay"] * wd_mult


def megatron(text: str, names: list[str], paper: Any) -> Iterator[tuple[str, float, float]]:
    def predicate(name: str, fn: Any) -> Any:
        return fn

    def key(with_name_predicate: Any) -> Any:
        return with_name_predicate

    config = "megatron.core.optimizer.optimizer_config"
    paper(config, ParamKey=key, ParamWithNamePredicate=predicate)
    arguments = SimpleNamespace(lr=LR / 16, weight_decay=1.6)
    training = paper(
        "megatron.training.training", get_megatron_optimizer_config=lambda args: ("config", {})
    )
    emitted = executed(text)
    emitted["install"]()
    with pytest.raises(ValueError, match="leave out --use-mup"):
        training.get_megatron_optimizer_config(SimpleNamespace(use_mup=True))
    _, overrides = training.get_megatron_optimizer_config(arguments)
    for name in names:
        for matches, values in overrides.items():
            if matches(None, name):
                assert values["min_lr"] == 0
                yield name, values["max_lr"], 1.6 * values["wd_mult"]


READERS = {
    "torchtitan": torchtitan,
    "olmo-core": olmo_core,
    "nemo-automodel": nemo_automodel,
    "megatron": megatron,
}


@pytest.mark.parametrize("to", READERS)
def test_every_parameter_is_claimed_once_with_its_roles_values(
    document: Document, to: str, paper: Callable[..., Any]
) -> None:
    text = written(document(optimizer={"weight_decay": 0.1}), to)
    roles = {name: role for role, names in NAMES[to].items() for name in names}
    claims = list(READERS[to](text, list(roles), paper))
    assert sorted(name for name, _, _ in claims) == sorted(roles)
    for name, lr, decay in claims:
        assert (lr, decay) == pytest.approx(EXPECTED[roles[name]], rel=1e-5), name


@pytest.mark.parametrize("to", ["torchtitan", "olmo-core", "megatron"])
def test_init_is_scaled_by_role(document: Document, to: str, paper: Callable[..., Any]) -> None:
    """Against the target's own: torchtitan's readout goes as dim**-0.5 by itself."""
    config = SimpleNamespace(Config=keeps)
    classes = {"OptimizersContainer": config, "LRSchedulersContainer": config}
    paper("torchtitan.components.optimizer", ParamGroupConfig=keeps, **classes)
    schedulers = dict.fromkeys(("LinearWithWarmup", "CosWithWarmup"), keeps)
    paper("olmo_core.optim", AdamWConfig=keeps, OptimGroupOverride=keeps, **schedulers)
    emitted = executed(written(document(), to, folded=True))
    readout = 1 / 4 if to == "torchtitan" else 1 / 16
    expected = {"embedding": 1, "readout": readout, "vector": 1, "hidden": 1 / 4}
    if to != "megatron":
        expected["query"] = QUERY / 4
    assert emitted["INIT_FACTORS"] == pytest.approx(expected, rel=1e-5)
    for role, names in NAMES[to].items():
        assert {emitted["role_of"](name) for name in names} == {role}


Init = dict[str, Callable[[torch.Tensor], Any]]


@dataclass
class Layer:
    """A node of a torchtitan model config."""

    param_init: Init | None = None
    layers: list[Any] = field(default_factory=list)
    lm_head: Any = None
    ffn_norm: Any = None
    wo: Any = None


def test_torchtitans_init_functions_are_scaled(
    document: Document, paper: Callable[..., Any]
) -> None:
    config = SimpleNamespace(Config=keeps)
    classes = {"OptimizersContainer": config, "LRSchedulersContainer": config}
    paper("torchtitan.components.optimizer", ParamGroupConfig=keeps, **classes)
    shared: Init = {"weight": torch.nn.init.ones_}
    block = Layer(ffn_norm=Layer(shared), wo=Layer(shared))
    model = Layer(lm_head=Layer(shared), layers=[block])
    executed(written(document(), "torchtitan"))["scale_init"](model)
    made = [torch.zeros(2) for _ in range(3)]
    for node, weight in zip((model.lm_head, block.ffn_norm, block.wo), made, strict=True):
        node.param_init["weight"](weight)
    assert [weight[0].item() for weight in made] == [1 / 4, 1, 1 / 4]
    assert shared == {"weight": torch.nn.init.ones_}


def test_patterns_of_megatron_do_not_meet() -> None:
    for role, names in NAMES["megatron"].items():
        for name in names:
            hits = [other for other, pattern in MEGATRON.items() if re.search(pattern, name)]
            assert hits == ([] if role == "hidden" else [role])


def rates(found: Exponents, to: str) -> Mapping[str, Any]:
    text: Any = yaml.safe_load(written(found, to))
    return {"lr": text["optimizer"]["lr"], **text["lr_scheduler"]}


def test_automodels_own_floor_and_warm_up_are_replaced(document: Document) -> None:
    found = rates(document(), "nemo-automodel")
    assert found == {
        "lr": pytest.approx(LR / 16),
        "lr_decay_style": "linear",
        "lr_warmup_steps": 2,
        "init_lr": 0.0,
        "min_lr": 0.0,
    }
