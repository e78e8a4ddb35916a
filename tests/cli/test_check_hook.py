"""The pre-commit hook: its entry is run as pre-commit runs it, with all files at the end."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mutransfer_cli.spec.records import Records

ROOT = Path(__file__).parent.parent.parent
(HOOK,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())

Make = Callable[..., Records]
Write = Callable[..., Path]
Run = Callable[..., Any]


def commit(folder: Path, *files: str) -> subprocess.CompletedProcess[str]:
    """Run the hook on the files, with both streams joined."""
    return subprocess.run(
        [*shlex.split(HOOK["entry"]), *files],
        cwd=folder,
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_every_recipe_is_judged_and_one_that_fails_stops_the_commit(
    made: Make, write_records: Write, run: Run, tmp_path: Path
) -> None:
    exponents, good = tmp_path / "exponents.yaml", tmp_path / "recipe.yaml"
    assert run("fit-exponents", write_records(made()), "-o", exponents).exit_code == 0
    assert run("transfer", exponents, "--width", 128, "-o", good).exit_code == 0
    document = yaml.safe_load(good.read_text())
    document["roles"]["hidden"]["lr"]["value"] *= 2
    (tmp_path / "recipe of 7B.yaml").write_text(yaml.safe_dump(document))

    passed = commit(tmp_path, "recipe.yaml")
    assert (passed.returncode, "verdict: pass" in passed.stdout) == (0, True)
    failed = commit(tmp_path, "recipe of 7B.yaml", "recipe.yaml")
    assert failed.returncode == 3
    assert re.findall(r"^recipe.*yaml$|^verdict: .*$", failed.stdout, re.MULTILINE) == [
        "recipe of 7B.yaml",
        "verdict: fail",
        "recipe.yaml",
        "verdict: pass",
    ]
    assert "schema:" not in failed.stdout


@pytest.mark.parametrize(
    ("path", "chosen"),
    [
        ("recipe.yaml", True),
        ("configs/recipe-4096.yml", True),
        ("recipe/notes.yaml", False),
        ("myrecipe.yaml", False),
        ("recipe.yaml.orig", False),
    ],
)
def test_recipes_are_found_by_their_names(path: str, chosen: bool) -> None:
    assert bool(re.search(HOOK["files"], path)) == chosen
