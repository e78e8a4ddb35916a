"""The shipped specs in a table, and one of them as YAML."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli.spec.sources import load_spec, shipped_recipes

Run = Callable[..., Any]


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_table_names_every_spec_within_the_terminal(
    columns: int, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    result = run("recipes")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= min(columns, 100)
    text = re.sub(r" +\d+ trials.*", "", result.stdout)
    text = re.sub(r"(?<=[,{])\n    (?=\S)", "", text)
    named = set()
    for name, ends in re.findall(r"^  ([\w/-]+?)(?:-\{([^}]*)\})?$", text, re.MULTILINE):
        named |= {f"{name}-{end}" for end in ends.split(",")} if ends else {name}
    assert named == set(shipped_recipes())


def test_a_paper_alone(run: Run) -> None:
    out = run("recipes", "fan").stdout
    assert out.startswith("Fan et al. 2025 (arXiv 2510.15262)")
    assert "fan/constant" in out
    assert "lingle" not in out


@pytest.mark.parametrize("name", ["quickstart", "lingle/swiglu", "everett/sgd-full-mup"])
def test_a_spec_that_is_printed_runs_by_itself(name: str, run: Run, tmp_path: Path) -> None:
    result = run("recipes", name)
    assert result.exit_code == 0
    (tmp_path / "spec.yaml").write_text(result.stdout)
    for variant in (None, "cpu") if "/" in name else (None,):
        assert load_spec(str(tmp_path / "spec.yaml"), variant)[0] == load_spec(name, variant)[0]


def test_a_config_is_found_from_anywhere(run: Run, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(run("recipes", "hf-llama-tiny").stdout)
    spec: Any = load_spec(str(tmp_path / "spec.yaml"))[0]
    assert spec.model.config(tmp_path)["model_type"] == "llama"


@pytest.mark.parametrize(
    ("command", "name"),
    [*product(["recipes", "sweep-proxy"], ["quikstart", "lingle/swigglu"])],
)
def test_a_mistyped_name_gets_the_nearest_three(command: str, name: str, run: Run) -> None:
    result = run(command, name)
    assert result.exit_code == 2
    assert len(result.stderr) < 300
    assert "`mutransfer recipes` lists all" in result.stderr
    hint = result.stderr.partition("did you mean ")[2].partition("?")[0]
    assert hint.startswith({"quikstart": "quickstart", "lingle/swigglu": "swiglu"}[name])
    assert len(re.split(", | or ", hint)) <= 3


def test_the_reader_of_a_pipe_may_leave() -> None:
    piped = f"{sys.executable} -m mutransfer_cli recipes | head -2"
    result = subprocess.run(piped, shell=True, capture_output=True, text=True, env=os.environ)
    assert result.stdout.count("\n") == 2
    assert result.stderr == ""
