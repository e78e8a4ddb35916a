"""A recipe for a small Llama, to be tried in real trainers; `make test-trainers` runs these tests.

They need an environment with the trainers, so that the other targets leave them out.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.recipe.build import build_recipe
from mutransfer_cli.recipe.formats.dispatch import emit
from mutransfer_cli.recipe.loaded import loaded
from mutransfer_cli.recipe.read_model import read_target
from mutransfer_cli.recipe.roles import Target
from mutransfer_cli.rules.plan import PlannedParameter, TargetModel
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.strict import validated
from mutransfer_cli.sweep.prepare import Sweep
from tests.conftest import TINY
from tests.recipe.test_build import exponents
from tests.trainers.compare import ROWS, table

WIDTH, DEPTH, HEADS, VOCAB = 256, 2, 32, 512

Emit = Callable[..., str]
Plan = Callable[..., dict[str, PlannedParameter]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.trainers)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if ROWS:
        terminalreporter.write_line(table())


def llama_config(inner: int = 4 * WIDTH, **changes: Any) -> dict[str, Any]:
    """The config.json of a Llama of the test's sizes."""
    config = {
        "model_type": "llama",
        "vocab_size": VOCAB,
        "hidden_size": WIDTH,
        "intermediate_size": inner,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "max_position_embeddings": 128,
        "tie_word_embeddings": False,
    }
    return config | changes


@pytest.fixture(scope="session")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Exponents]:
    """Exponents of a muP sweep with AdamW, weight decay and eps by role; keywords change sections
    of the spec."""
    folder = tmp_path_factory.mktemp("trainers")
    (folder / "text.txt").write_text("the quick brown fox\n" * 800)

    def make(**changes: dict[str, Any]) -> Exponents:
        raw = copy.deepcopy(TINY) | {"optimizer": {"weight_decay": 0.1}}
        for section, change in changes.items():
            raw[section] = raw.get(section, {}) | change
        return exponents(Sweep.prepare(validated(SweepSpec, raw, "spec"), folder))

    return make


@pytest.fixture
def target(fitted: Callable[..., Exponents], tmp_path: Path) -> Callable[..., TargetModel]:
    """Read a Llama's config as `transfer --model` does; keywords change the config."""

    def read(found: Exponents, **changes: Any) -> TargetModel:
        path = tmp_path / "config.json"
        path.write_text(json.dumps(llama_config() | changes))
        return read_target(str(path), None, {}, found)

    return read


@pytest.fixture
def written(target: Callable[..., TargetModel]) -> Emit:
    """The emitted file for a Llama of the test's sizes; with `by_config=False` as `--width` alone
    gives it."""

    def write(
        found: Exponents, to: str, by_config: bool = True, lossy: bool = False, **changes: Any
    ) -> str:
        model = target(found, **changes) if by_config else None
        return emit(found, Target(WIDTH, {}, None, model=model), to, lossy).text

    return write


@pytest.fixture
def wanted(target: Callable[..., TargetModel]) -> Plan:
    """Values of every parameter by the recipe itself, folded, under transformers' names."""

    def plan(found: Exponents, **changes: Any) -> dict[str, PlannedParameter]:
        transformers: Any = pytest.importorskip("transformers")
        recipe = build_recipe(found, Target(WIDTH, {}, True, model=target(found, **changes)))
        config = transformers.AutoConfig.for_model(**llama_config() | changes)
        model = transformers.AutoModelForCausalLM.from_config(config)
        return {p.name: p for p in loaded(recipe, "recipe").plan(model)}

    return plan
