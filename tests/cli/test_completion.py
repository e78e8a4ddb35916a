"""The shell completes commands, shipped specs, folders of records and pages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mutransfer_cli.cli.completion import run_folders, spec_names, topics
from mutransfer_cli.spec.sources import shipped_recipes

PROGRAM = "import sys; sys.argv = ['mutransfer']; from mutransfer_cli.cli.app import main; main()"


def completed(folder: Path, *words: str) -> list[str]:
    """The words that bash is offered for the last one."""
    asked = {
        "_MUTRANSFER_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(("mutransfer", *words)),
        "COMP_CWORD": str(len(words)),
    }
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.run(
        command, cwd=folder, env=os.environ | asked, capture_output=True, text=True
    ).stdout.split()


def test_bash_is_offered_what_fits(tmp_path: Path) -> None:
    for name in ("a", "lingle/baseline-cpu"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "trials.jsonl").touch()
    assert completed(tmp_path, "re") == ["recipes", "report"]
    assert completed(tmp_path, "sweep-proxy", "quick") == ["quickstart-standard", "quickstart"]
    assert completed(tmp_path, "fit-exponents", "runs/l") == ["runs/lingle/baseline-cpu"]
    assert completed(tmp_path, "docs", "re") == ["results", "report"]


def test_the_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert set(spec_names("")) == set(shipped_recipes())
    assert run_folders("") == []
    assert topics("sp") == ["spec"]


def test_the_script_for_a_shell_is_printed() -> None:
    out = subprocess.run(
        [
            sys.executable,
            "-c",
            PROGRAM.replace("['mutransfer']", "['mutransfer', '--show-completion', 'bash']"),
        ],
        env=os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
    ).stdout
    assert "complete -o default" in out
