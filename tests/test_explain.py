"""Every field of every file, broken in several ways: the library's own words never appear."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli.check.measure import Check
from mutransfer_cli.errors import InputError
from mutransfer_cli.fit.exponents import Exponents
from mutransfer_cli.recipe.types import Recipe
from mutransfer_cli.spec.protocol import DeclaredProtocol
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.spec.yaml_io import load_yaml
from mutransfer_cli.strict import Closed, validated

THEIRS = re.compile(
    r"Input should|Field required|valid (tuple|dict|list|string|integer)|Extra inputs|[Uu]nion|"
    r"Value error|Assertion|_parsing|_type\b|\bdict\b|NoneType|\bNone\b|\btuple\b|pydantic|"
    r"validation|another value|discriminator|expected tags|\{['\d}]"
)
SPEC = """schema: mutransfer.sweep/1
model: {depth: 2, head_size: 16, mlp_ratio: 4}
data: {source: markov, vocab: 64}
parameterization: {name: mup, base_width: 32, alignment: {hidden: {alpha: 1, omega: 1, u: 1}}}
optimizer: {name: adamw, betas: [0.9, 0.95], lr_mult: {hidden: 2}}
train: {steps: 100, batch: 8, schedule: wsd, decay_fraction: 0.2, clip: 1}
sweep:
  widths: [32, 64]
  axes: {lr: {from: 2^-9, to: 2^-3, per_octave: 2}}
  seeds: [0, 1]
diagnostics: {every: 10}
"""
OWN_SPEC = """schema: mutransfer.sweep/1
model: {factory: "mine:build", args: {size: 3}, roles: {w: hidden}, own_multipliers: {w: 1}}
data: {factory: "mine:data"}
parameterization: {name: mup, base_width: 32, weight_decay: constant, epsilon: constant}
train: {steps: 100}
sweep: {widths: [32], axes: {lr: [0.1]}}
loss: {factory: "mine:loss"}
"""
PROTOCOL = """schema: mutransfer.protocol/1
parameterization: {name: mup, base_width: 64}
optimizer: {name: muon, momentum: 0.9}
train: {batch: 8, steps: 100}
model: {depth: 2, init_std: {hidden: 0.02}}
"""
CHECK = """schema: mutransfer.check/1
tool_version: 1
source: runs
verdict: pass
gates:
- gate: exponent
  verdict: pass
  measures:
  - {quantity: q, unit: "", value: 0, low: 0, high: 0, expected: 0, tolerance: 1, verdict: pass,
     sentence: s}
  evidence: {a: b}
""".replace("tool_version: 1", "tool_version: '1'")
FILES: dict[str, tuple[type[Closed], str]] = {
    "spec": (SweepSpec, SPEC),
    "own spec": (SweepSpec, OWN_SPEC),
    "protocol": (DeclaredProtocol, PROTOCOL),
    "check": (Check, CHECK),
}
BAD: tuple[Any, ...] = (None, True, -1, 1.5, float("inf"), "muP", "", [], [3], {}, {"x": 1}, {1: 2})


def paths(data: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key and item below `data`."""
    if isinstance(data, dict | list):
        for key in data if isinstance(data, dict) else range(len(data)):
            yield (*before, key)
            yield from paths(data[key], (*before, key))


def broken(data: Any) -> Iterator[Any]:
    """The data with every part missing, misspelt, or of another kind."""
    for *parents, last in paths(data):
        for bad in (*BAD, "missing", "misspelt"):
            whole = copy.deepcopy(data)
            node = whole
            for parent in parents:
                node = node[parent]
            if bad == "missing":
                del node[last]
            elif bad == "misspelt" and isinstance(node, dict):
                node[f"{last}z"] = node.pop(last)
            else:
                node[last] = bad
            yield whole


def sentence_for(model: type[Closed], data: Any) -> str | None:
    try:
        validated(model, data, "x")
    except InputError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", FILES)
def test_no_word_of_the_library_reaches_users(name: str) -> None:
    model, text = FILES[name]
    data = load_yaml(text, "x")
    assert sentence_for(model, data) is None
    found = [sentence_for(model, one) for one in broken(data)]
    refused = [sentence for sentence in found if sentence is not None]
    assert len(refused) > len(found) / 2
    assert [sentence for sentence in refused if THEIRS.search(sentence)] == []


@pytest.mark.parametrize("model", [Exponents, Recipe])
def test_a_damaged_result_is_explained(model: type[Closed]) -> None:
    schema = f"mutransfer.{model.__name__.lower()}/1"
    for bad in BAD:
        data = dict.fromkeys((x.alias or name for name, x in model.model_fields.items()), bad)
        found = sentence_for(model, data | {"schema": schema})
        assert found is not None
        assert not THEIRS.search(found), found


def test_stdin_and_rows_have_lines_too(tmp_path: Path) -> None:
    data = load_yaml(SPEC.replace("steps: 100", "steps: x"), "stdin")
    with pytest.raises(
        InputError, match=r"^stdin line 6, column 9: train\.steps: expected a whole"
    ):
        validated(SweepSpec, data, "stdin")
