"""Names of specs and models, and the places of records."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.model import FactorySpec, HfSpec
from mutransfer_cli.spec.records import SweepHeader
from mutransfer_cli.spec.sources import (
    find_spec,
    holds_records,
    load_model,
    load_records,
    load_spec,
    own_function,
    run_name,
    shipped_files,
    shipped_recipes,
)
from mutransfer_cli.spec.yaml_io import json_line
from mutransfer_cli.sweep.prepare import Sweep
from tests.conftest import CPU
from tests.made_up import record


def test_shipped_specs_are_found_by_name() -> None:
    names, files = shipped_recipes(), shipped_files()
    assert {
        "quickstart",
        "hf-llama-tiny",
        "everett/adam-full-mup",
        "lingle/baseline",
    } < names.keys()
    assert "everett" not in names
    assert find_spec("everett/adam-full-mup") == (files["everett"], "adam-full-mup")
    assert find_spec("hf-llama-tiny") == (files["hf-llama-tiny"], None)
    assert find_spec("no-such-spec") is find_spec("no/such/spec") is None


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("quickstrat", "quickstrat: no such spec; .*did you mean quickstart"),
        ("everett/adam-full-mpu", "everett.yaml has no row .*did you mean adam-full-mup, "),
        ("lingle", "lingle.yaml: holds several specs; name one, such as lingle/batch-quarter"),
        ("quickstart/cpu", "no such spec; .*quickstart.yaml has no row 'cpu'"),
        ("/", "/: is not a file; give a spec in YAML"),
    ],
)
def test_a_name_without_a_spec_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        load_spec(name)


@pytest.mark.parametrize(
    ("spec", "path", "variant", "folder"),
    [
        ("quickstart", "recipes/quickstart.yaml", None, "quickstart"),
        ("everett/adam-full-mup", "recipes/everett.yaml", "cpu", "everett/adam-full-mup-cpu"),
        ("/home/me/mine/small", "/home/me/mine.yaml", None, "mine/small"),
        ("hf-llama-tiny", "recipes/hf-llama-tiny/hf-llama-tiny.yaml", None, "hf-llama-tiny"),
    ],
)
def test_runs_are_named_after_the_spec(
    spec: str, path: str, variant: str | None, folder: str
) -> None:
    assert run_name(spec, Path(path), variant) == folder


def test_a_model_is_a_function_a_config_or_a_section(tmp_path: Path) -> None:
    assert load_model("package.models:build") == (
        FactorySpec(factory="package.models:build"),
        Path(),
    )
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"model_type": "llama"}))
    assert load_model(str(config)) == (HfSpec(hf="config.json"), tmp_path)
    section = tmp_path / "model.yaml"
    section.write_text("{hf: config.json, untie: yes}")
    assert load_model(str(section)) == (HfSpec(hf="config.json", untie=True), tmp_path)
    section.write_text("{depth: 2}")
    with pytest.raises(
        InputError, match=r"model.yaml: is neither a config.json of a causal LM nor"
    ):
        load_model(str(section))


@pytest.fixture
def header(tiny: dict[str, Any], prepare: Callable[[dict[str, Any]], Sweep]) -> SweepHeader:
    return prepare(tiny).header(CPU)


def test_records_of_folders_and_files_are_added(header: SweepHeader, tmp_path: Path) -> None:
    first = json_line(header.model_dump(mode="json", by_alias=True))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "trials.jsonl").write_bytes(first + record("a").line() + b'{"kind"')
    (tmp_path / "more.jsonl").write_bytes(first + record("b").line())
    warnings: list[str] = []
    found = load_records([tmp_path / "run", tmp_path / "more.jsonl"], warnings.append)
    assert [trial.trial for trial in found.trials] == ["a", "b"]
    torn = tmp_path / "run" / "trials.jsonl"
    assert warnings == [f"{torn}: the last line is cut short and was skipped"]
    (tmp_path / "empty").write_text("")
    with pytest.raises(InputError, match="empty: holds no records; run `mutransfer sweep-proxy`"):
        load_records([tmp_path / "empty"], warnings.append)


def test_records_are_recognised_by_their_beginning(header: SweepHeader, tmp_path: Path) -> None:
    path = tmp_path / "x"
    for content, expected in (
        (json_line(header.model_dump(mode="json", by_alias=True)), True),
        (record("a").line(), True),
        (b"", True),
        (b"width,lr,loss\n", False),
    ):
        path.write_bytes(content)
        assert holds_records(path) == expected
    assert not holds_records(tmp_path)
    (tmp_path / "trials.jsonl").touch()
    assert holds_records(tmp_path)
    with pytest.raises(InputError, match=r"none: cannot be read \(No such file"):
        holds_records(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("my.py:build", "my:build"),
        ("models/gpt.py:build", "models.gpt:build"),
        ("models.gpt:build", "models.gpt:build"),
    ],
)
def test_functions_are_named_by_file_or_module(
    name: str, function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for path in ("my.py", "models/gpt.py"):
        (tmp_path / path).touch()
    assert own_function(name, "model") == function
    assert own_function(str(tmp_path / "my.py") + ":build", "model") == "my:build"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("build", "expected my_file.py:function or package.module:function"),
        ("gone.py:build", "there is no file gone.py"),
        ("../test_sources.py:build", "functions are imported from the current folder"),
    ],
)
def test_another_name_is_refused(
    name: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "test_sources.py").touch()
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    with pytest.raises(InputError, match=sentence) as caught:
        own_function(name, "model")
    assert caught.value.setting == "model"


def test_a_models_function_may_be_named_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.py").touch()
    assert load_model("my.py:build") == (FactorySpec(factory="my:build"), Path())
    with pytest.raises(InputError, match=r"there is no file gone\.py"):
        load_model("gone.py:build")
