"""Shared fixtures: sweeps that train in a second, and the commands as functions."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from mutransfer_cli.cli.app import app
from mutransfer_cli.spec.records import Records
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.spec.yaml_io import json_line
from mutransfer_cli.strict import validated
from mutransfer_cli.sweep.prepare import Sweep
from tests.made_up import Made

CPU = torch.device("cpu")
LONGEST = {"test_ray_launcher.py", "test_readme.py", "test_store_resume.py", "test_check_action.py"}

TINY: dict[str, Any] = {
    "schema": "mutransfer.sweep/1",
    "model": {"depth": 1, "head_size": 8},
    "data": {"source": "text", "path": "text.txt"},
    "parameterization": {"name": "mup", "base_width": 16},
    "train": {"steps": 10, "batch": 2, "context": 16, "warmup": 2, "eval_batches": 2},
    "sweep": {"widths": [16, 24, 32], "axes": {"lr": {"from": "2^-9", "to": "2^-3"}}},
}

TINY_MLP: dict[str, Any] = {
    "schema": "mutransfer.sweep/1",
    "model": {"family": "mlp"},
    "data": {"source": "linear_teacher", "inputs": 8, "outputs": 4, "samples": 1000},
    "parameterization": {"name": "mup", "base_width": 16},
    "train": {"steps": 10, "batch": 8, "warmup": 2, "eval_batches": 2},
    "sweep": {"widths": [16, 24, 32], "axes": {"lr": {"from": "2^-9", "to": "2^-3"}}},
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest files first: each file runs in one pytest worker."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(autouse=True)
def in_this_process(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train sweeps in the test's process, one group per width; starting workers takes seconds.

    Tests marked `processes` start workers.
    """
    if "processes" not in request.keywords:
        without_workers(monkeypatch)


def without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mutransfer_cli.sweep.spawn.environments", lambda kind, count: [])
    monkeypatch.setattr("mutransfer_cli.sweep.spawn.usable_cores", lambda: 1)


@pytest.fixture
def tiny_mlp() -> dict[str, Any]:
    """The raw spec of a multilayer perceptron; tests may change it."""
    return copy.deepcopy(TINY_MLP)


@pytest.fixture
def tiny(tmp_path: Path) -> dict[str, Any]:
    """The raw spec, with its text where `write_spec` puts it; tests may change it."""
    return tiny_in(tmp_path)


def tiny_in(folder: Path) -> dict[str, Any]:
    """Return the raw spec and write its text into the folder."""
    words = "".join(f"the {n} of {n * n % 97} and\n" for n in range(800))
    (folder / "text.txt").write_text(words)
    return copy.deepcopy(TINY)


@pytest.fixture
def write_spec(tmp_path: Path) -> Callable[[Any], Path]:
    def write(spec: Any) -> Path:
        path = tmp_path / "spec.yaml"
        path.write_text(spec if isinstance(spec, str) else yaml.safe_dump(spec))
        return path

    return write


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[[dict[str, Any]], Sweep]:
    """Prepare a sweep from a raw spec."""
    return lambda raw: Sweep.prepare(validated(SweepSpec, raw, "spec"), tmp_path)


class Result:
    """Exit code and both streams of one command."""

    def __init__(self, exit_code: int, stdout: str, stderr: str) -> None:
        self.exit_code, self.stdout, self.stderr = exit_code, stdout, stderr


@pytest.fixture
def run() -> Callable[..., Result]:
    """Run `mutransfer ARGS` in this process, with stdin from `stdin`."""

    return invoke


def invoke(*args: object, stdin: str | bytes = "") -> Result:
    result = CliRunner().invoke(app, [str(arg) for arg in args], input=stdin)
    return Result(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def made(
    tiny: dict[str, Any], prepare: Callable[[dict[str, Any]], Sweep]
) -> Callable[..., Records]:
    """Make records of the tiny sweep's protocol."""
    header = prepare(tiny).header(CPU)
    return lambda **law: Records(header, Made(**law).trials())


@pytest.fixture
def write_records(tmp_path: Path) -> Callable[..., Path]:
    """Write records to a file."""

    def write(records: Records, name: str = "trials.jsonl") -> Path:
        lines = [records.header, *records.trials]
        path = tmp_path / name
        path.write_bytes(
            b"".join(json_line(line.model_dump(mode="json", by_alias=True)) for line in lines)
        )
        return path

    return write
