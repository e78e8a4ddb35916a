from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.recipe.formats.conftest import QUERY, Document, claimed_once, executed, keeps, written

NAMES = {
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
}


@pytest.fixture
def run_there(paper: Callable[..., Any]) -> Callable[[str], dict[str, Any]]:
    """Execute an emitted file beside torchtitan's config classes."""
    config = SimpleNamespace(Config=keeps)
    classes = {"OptimizersContainer": config, "LRSchedulersContainer": config}
    paper("torchtitan.components.optimizer", ParamGroupConfig=keeps, **classes)
    return executed


def claims(emitted: dict[str, Any], names: list[str]) -> Iterator[tuple[str, float, float]]:
    claimed: set[str] = set()
    for group in emitted["OPTIMIZER"].param_groups:
        found = [n for n in names if n not in claimed and re.search(group.pattern, n)]
        assert found, "a pattern that claims nothing is an error there"
        claimed |= set(found)
        keywords = group.optimizer_kwargs
        assert set(keywords) == {"lr", "weight_decay", "betas", "eps"}, "nothing is inherited"
        yield from ((name, keywords["lr"], keywords["weight_decay"]) for name in found)


Run = Callable[[str], dict[str, Any]]


def test_every_parameter_is_claimed_once_with_its_roles_values(
    document: Document, run_there: Run
) -> None:
    emitted = run_there(written(document(optimizer={"weight_decay": 0.1}), "torchtitan"))
    claimed_once(NAMES, lambda names: claims(emitted, names))


def test_init_is_scaled_by_role(document: Document, run_there: Run) -> None:
    """The factors are relative to the target's own init, whose readout scales as dim**-0.5."""
    emitted = run_there(written(document(), "torchtitan", folded=True))
    expected = {"embedding": 1, "readout": 1 / 4, "vector": 1, "hidden": 1 / 4, "query": QUERY / 4}
    assert emitted["INIT_FACTORS"] == pytest.approx(expected, rel=1e-5)
    for role, names in NAMES.items():
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


def test_its_init_functions_are_scaled(document: Document, run_there: Run) -> None:
    shared: Init = {"weight": torch.nn.init.ones_}
    block = Layer(ffn_norm=Layer(shared), wo=Layer(shared))
    model = Layer(lm_head=Layer(shared), layers=[block])
    run_there(written(document(), "torchtitan"))["scale_init"](model)
    made = [torch.zeros(2) for _ in range(3)]
    for node, weight in zip((model.lm_head, block.ffn_norm, block.wo), made, strict=True):
        node.param_init["weight"](weight)
    assert [weight[0].item() for weight in made] == [1 / 4, 1, 1 / 4]
    assert shared == {"weight": torch.nn.init.ones_}
