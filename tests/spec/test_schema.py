"""The JSON Schemas accept what the tool accepts and refuse what is clearly wrong."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from benchmarks.experiments import packed, runs
from mutransfer_cli.cli.schema import documents
from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.protocol import DeclaredProtocol
from mutransfer_cli.spec.records import parse_records
from mutransfer_cli.spec.schema import json_schema
from mutransfer_cli.spec.sources import load_spec, shipped_files
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.spec.yaml_io import load_yaml
from mutransfer_cli.strict import validated
from tests.conftest import TINY, TINY_MLP

KEYWORDS = set(Draft7Validator.META_SCHEMA["properties"])
BY_NAME = ("properties", "definitions")
LITERAL = ("const", "default", "enum", "required")


def validator(name: str) -> Draft7Validator:
    return Draft7Validator(json_schema(*documents()[name]))


def problems(found: Draft7Validator, document: Any) -> list[str]:
    """Errors of a draft-7 validator for a document whose keys are text, as in JSON."""
    read = json.loads(json.dumps(document))
    return [f"{error.json_path}: {error.message[:300]}" for error in found.iter_errors(read)]


def parts(found: Any) -> Iterator[dict[str, Any]]:
    """Yield a schema and all schemas nested in it."""
    if isinstance(found, list):
        for part in found:
            yield from parts(part)
    elif isinstance(found, dict):
        yield found
        for key, value in found.items():
            if key not in LITERAL:
                yield from parts(list(value.values()) if key in BY_NAME else value)


@pytest.mark.parametrize("name", documents())
def test_it_is_a_schema_of_draft_7_with_no_other_keywords(name: str) -> None:
    found = json_schema(*documents()[name])
    Draft7Validator.check_schema(found)
    for part in parts(found):
        assert part.keys() <= KEYWORDS
        assert "$ref" not in part or part.keys() == {"$ref"}, "draft 7 ignores what is beside it"
        if reference := part.get("$ref"):
            assert reference.removeprefix("#/definitions/") in found["definitions"]


@pytest.mark.parametrize("name", documents())
def test_every_field_of_every_section_has_a_description(name: str) -> None:
    sections = [part for part in parts(json_schema(*documents()[name])) if "properties" in part]
    for section in sections:
        for key, field in section["properties"].items():
            assert len(field.get("description", "")) > 3, (name, key)
        assert section.get("description"), (name, sorted(section["properties"]))


@pytest.fixture(scope="module")
def sweep() -> Draft7Validator:
    return validator("sweep")


@pytest.fixture(scope="module")
def trial() -> Draft7Validator:
    return validator("trial")


@pytest.mark.parametrize("name", shipped_files())
def test_every_shipped_recipe_is_accepted(name: str, sweep: Draft7Validator) -> None:
    assert problems(sweep, load_yaml(shipped_files()[name].read_text(), name)) == []


@pytest.mark.parametrize("name", runs())
def test_records_of_real_runs_are_accepted(name: str, trial: Draft7Validator) -> None:
    header, *trials = packed(name, "jsonl").splitlines()
    for line in (header, *trials[:20]):
        assert problems(trial, json.loads(line)) == []


def test_records_from_before_weight_decay_was_an_axis_are_accepted() -> None:
    header, first, *_ = packed(next(iter(runs())), "jsonl").splitlines()
    old = {key: value for key, value in json.loads(first).items() if key != "weight_decay"}
    lines = [header + b"\n", json.dumps(old).encode() + b"\n"]
    assert parse_records(lines, "old") is not None
    assert problems(validator("trial"), old) == []


@pytest.mark.parametrize(
    "wrong",
    [{"kind": "trail"}, {"status": "fine"}, {"eval_loss": "NaN"}, {"width": 0}, {"speed": 1}],
)
def test_a_wrong_record_is_refused(wrong: dict[str, Any]) -> None:
    header, first, *_ = packed(next(iter(runs())), "jsonl").splitlines()
    line = json.loads(first) | wrong
    lines = [header + b"\n", json.dumps(line).encode() + b"\n"]
    with pytest.raises(InputError):
        parse_records(lines, "records")
    assert problems(validator("trial"), line)


Change = tuple[dict[str, Any], tuple[str, ...], Any]


def changed(base: dict[str, Any], keys: tuple[str, ...], value: Any) -> dict[str, Any]:
    document = copy.deepcopy(base)
    inner = document
    for key in keys[:-1]:
        inner = inner.setdefault(key, {})
    inner[keys[-1]] = value
    return document


LR = ("sweep", "axes", "lr")
WRITTEN: list[Change] = [
    (TINY, LR, ["3e-4", "2^-9", "2 ** -8.5", 0.01, "1E-1 "]),
    (TINY, LR, {"from": "2^-9", "to": 1, "per_octave": "0.5"}),
    (TINY, ("sweep", "axes", "weight_decay"), [0]),
    (TINY, ("sweep", "axes", "lr_mult.hidden"), [0.5, 1, 2]),
    (TINY, ("train", "steps"), "1e3"),
    (TINY, ("train", "steps"), 1e3),
    (TINY, ("train", "steps"), "1.5k"),
    (TINY, ("sweep", "widths"), ["64k", "12,000", " 2 M"]),
    (TINY, ("train", "clip"), None),
    (TINY, ("train", "schedule"), "wsd"),
    (TINY, ("diagnostics",), "off"),
    (TINY, ("diagnostics",), False),
    (TINY, ("diagnostics",), {"every": 5}),
    (TINY, ("diagnostics",), {}),
    (TINY, ("deterministic",), "yes"),
    (TINY, ("model", "mlp_ratio"), "7/2"),
    (TINY, ("model", "mlp_ratio"), 3.5),
    (TINY_MLP, ("optimizer",), {"name": "sgd", "momentum": 0}),
    (TINY, ("model",), {"head_size": 4}),
    (TINY, ("model",), {"preset": "llama", "head_size": 2}),
    (TINY, ("model",), {"heads": 2, "kv_heads": 1, "head_size": None}),
    (TINY, ("model",), {"factory": "a.b:c", "args": {"x": [1, {"y": None}]}}),
    (TINY, ("model",), {"hf": "config.json", "roles": {".*": "hidden"}, "untie": True}),
    (TINY, ("data",), {"source": "markov", "length": "2^20"}),
    (TINY, ("parameterization", "weight_decay"), "none"),
    (TINY, ("parameterization", "weight_decay"), 0.5),
    (TINY, ("parameterization", "weight_decay"), "-1/2"),
    (TINY, ("parameterization", "alignment"), "none"),
    (TINY, ("parameterization", "alignment"), {"readout": {"alpha": 1, "omega": 0.8, "u": 1}}),
    (TINY, ("optimizer",), {}),
    (TINY, ("optimizer",), {"betas": [0.9, 0.99], "lr_mult": {"readout": 2}}),
    (TINY, ("optimizer",), {"name": "adafactor", "beta2_decay": -0.5}),
    (TINY, ("optimizer",), {"name": "muon", "lr_adjustment": "match_rms_adamw"}),
    (TINY_MLP, ("model", "depth"), 0),
]


@pytest.mark.parametrize(("base", "keys", "value"), WRITTEN)
def test_what_people_write_is_accepted(
    base: dict[str, Any], keys: tuple[str, ...], value: Any, sweep: Draft7Validator
) -> None:
    document = changed(base, keys, value)
    validated(SweepSpec, document, "spec")
    assert problems(sweep, document) == []


WRONG: list[Change] = [
    (TINY, ("trian",), {}),
    (TINY, ("schema",), "mutransfer.sweep/2"),
    (TINY, ("sweep", "axes", "momentum"), [0.9]),
    (TINY, ("sweep", "axes"), {"weight_decay": [0.1]}),
    (TINY, LR, []),
    (TINY, LR, 0.01),
    (TINY, LR, ["fast"]),
    (TINY, LR, {"from": "2^-9"}),
    (TINY, LR, {"from": -1, "to": 1}),
    (TINY, ("sweep", "widths"), 64),
    (TINY, ("sweep", "seeds"), [-1]),
    (TINY, ("train", "step"), 10),
    (TINY, ("train", "steps"), 0),
    (TINY, ("train", "steps"), 10.5),
    (TINY, ("train", "steps"), None),
    (TINY, ("train", "steps"), True),
    (TINY, ("train", "schedule"), "linaer"),
    (TINY, ("train",), {"batch": 8}),
    (TINY, ("diagnostics",), True),
    (TINY, ("diagnostics",), None),
    (TINY, ("diagnostics",), {"evry": 5}),
    (TINY, ("deterministic",), "perhaps"),
    (TINY, ("model", "family"), "cnn"),
    (TINY, ("model", "dpeth"), 2),
    (TINY, ("model", "mlp_ratio"), "wide"),
    (TINY, ("model", "mlp_ratio"), -1),
    (TINY, ("model", "biases"), 2),
    (TINY, ("model",), {"factory": "a:b", "depth": 2}),
    (TINY, ("model",), {"hf": "config.json", "roles": {".*": "output"}}),
    (TINY, ("data",), {"source": "txt", "path": "text.txt"}),
    (TINY, ("data",), {"source": "text"}),
    (TINY, ("data",), {"source": "tokens", "path": "t.bin", "vocab": 10, "dtype": "float32"}),
    (TINY, ("data", "eval_fraction"), 1),
    (TINY, ("parameterization", "name"), "muP"),
    (TINY, ("parameterization", "weight_decay"), "half"),
    (TINY, ("parameterization", "weight_decay"), 11),
    (TINY, ("parameterization", "alignment"), {"readout": {"alpha": 1}}),
    (TINY, ("optimizer",), {"name": "adamW"}),
    (TINY, ("optimizer",), {"name": "sgd", "betas": [0.9, 0.95]}),
    (TINY, ("optimizer",), {"betas": [0.9]}),
    (TINY, ("optimizer",), {"betas": [0.9, 0.95, 0.99]}),
    (TINY, ("optimizer",), {"betas": [0.9, 1.0]}),
    (TINY, ("optimizer",), {"name": "adafactor", "beta2_decay": 0.5}),
    (TINY, ("optimizer",), {"lr_mult": {"vector": 2}}),
    (TINY_MLP, ("model", "head_size"), 8),
]


@pytest.mark.parametrize(("base", "keys", "value"), WRONG)
def test_what_is_wrong_is_refused(
    base: dict[str, Any], keys: tuple[str, ...], value: Any, sweep: Draft7Validator
) -> None:
    document = changed(base, keys, value)
    with pytest.raises(InputError):
        validated(SweepSpec, document, "spec")
    assert problems(sweep, document)


@pytest.mark.parametrize(
    ("variant", "fits"),
    [
        ({"train": {"steps": 3}, "sweep": {"widths": [16]}}, True),
        ({"model": {"depth": 3}, "data": {"eval_fraction": 0.2}, "optimizer": {"eps": 1e-9}}, True),
        ({"sweep": {"axes": {"lr": [0.1]}}, "diagnostics": "off", "deterministic": True}, True),
        ({"trian": {}}, False),
        ({"train": {"step": 3}}, False),
        ({"train": {"steps": "many"}}, False),
        ({"model": {"dpeth": 3}}, False),
        (3, False),
    ],
)
def test_a_variant_says_any_part_of_a_spec(
    variant: Any,
    fits: bool,
    tiny: dict[str, Any],
    write_spec: Callable[[Any], Path],
    sweep: Draft7Validator,
) -> None:
    document = tiny | {"variants": {"cpu": variant}}
    path = str(write_spec(document))
    if fits:
        load_spec(path, "cpu")
    else:
        with pytest.raises(InputError):
            load_spec(path, "cpu")
    assert (problems(sweep, document) == []) == fits


@pytest.mark.parametrize(
    ("keys", "value", "fits"),
    [
        (("model",), {"depth": 12, "attention_scale": "1/d_head"}, True),
        (("train", "precision"), "fp8 of our own", True),
        (("train", "schedule"), "cosine", True),
        (("train", "epochs"), 3, False),
        (("model", "depth"), 0, False),
        (("schema",), "mutransfer.sweep/1", False),
    ],
)
def test_a_declared_protocol(keys: tuple[str, ...], value: Any, fits: bool) -> None:
    base = {
        "schema": "mutransfer.protocol/1",
        "parameterization": {"name": "mup", "base_width": 64},
        "optimizer": {"name": "adamw"},
        "train": {"batch": 32, "steps": "1e3"},
    }
    document = changed(base, keys, value)
    if fits:
        validated(DeclaredProtocol, document, "protocol")
    else:
        with pytest.raises(InputError):
            validated(DeclaredProtocol, document, "protocol")
    assert (problems(validator("protocol"), document) == []) == fits
