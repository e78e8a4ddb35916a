"""A first spec or protocol, from the command line; each is then used as it is."""

from __future__ import annotations

import os
import pty
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mutransfer_cli.cli.app import EXAMPLES

ROOT = Path(__file__).parents[2]
MUTRANSFER = [sys.executable, "-m", "mutransfer_cli"]
RUNS = "width,lr,loss\n" + "".join(
    f"{width},{2.0**octave},{3 + 0.05 * (octave + 8) ** 2}\n"
    for width in (64, 128, 256)
    for octave in range(-11, -4)
)
Run = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a table."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs.csv").write_text(RUNS)
    (tmp_path / "swept").mkdir()
    (tmp_path / "swept" / "trials.jsonl").touch()
    return tmp_path


def on_a_terminal(*args: str) -> int:
    """Run the command with stdout on a terminal."""
    ours, theirs = pty.openpty()
    done = subprocess.run([*MUTRANSFER, *args], stdout=theirs, stderr=subprocess.DEVNULL)
    os.close(theirs)
    os.close(ours)
    return done.returncode


def test_on_a_terminal_a_file_is_written_and_never_overwritten(folder: Path, run: Run) -> None:
    assert on_a_terminal("init", "--table", "runs.csv") == 0
    protocol = folder / "protocol.yaml"
    assert yaml.safe_load(protocol.read_text())["schema"] == "mutransfer.protocol/1"
    protocol.write_text("mine")
    assert on_a_terminal("init", "--table", "runs.csv") == 2
    result = run("init", "--table", "runs.csv", "-o", "protocol.yaml")
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: protocol.yaml: is there already; remove it, or give another name with -o\n"
    )
    assert protocol.read_text() == "mine"


def test_piped_it_goes_to_stdout_with_the_next_command_on_stderr(folder: Path, run: Run) -> None:
    result = run("init", "--table", "runs.csv")
    assert yaml.safe_load(result.stdout)["schema"] == "mutransfer.protocol/1"
    assert result.stderr.splitlines()[-1] == (
        "next: mutransfer fit-exponents runs.csv --protocol protocol.yaml"
    )
    assert run("init", "--table", "runs.csv", "-o", "-").stdout == result.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["runs.csv", "swept"]


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--model", "a:b", "--hf", "c.json"], "--model and --hf: give one of them"),
        (["--data", "a:b"], "--data: is for the samples of an own model; give --model too"),
        (["--table", "gone.csv"], "gone.csv: cannot be read (No such file or directory)"),
        (["--table", "runs.csv", "-o", "a/b.yaml"], "a/b.yaml: there is no folder a; make it"),
        (["--model", "gone.py:build"], "--model gone.py:build: there is no file gone.py"),
        (["--model", "x:y", "--data", "z"], "--data z: expected my_file.py:function or"),
        (["--hf", "runs.csv"], "runs.csv: is a table of runs; give the config.json"),
        (["--table", "quickstart"], "quickstart: is a sweep spec; give a table of runs; this"),
        (
            ["--table", "swept"],
            "swept: is the folder of a sweep; it holds its protocol itself; run",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    args: list[str], sentence: str, folder: Path, run: Run
) -> None:
    result = run("init", *args)
    assert (result.exit_code, result.stdout) == (2, "")
    said = [line for line in result.stderr.splitlines() if line != "reading data and model"]
    assert len(said) == 1
    assert said[0].startswith(f"Error: {sentence}")


def sh(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line as it is typed, with this Python's `mutransfer`."""
    name, *args = shlex.split(line)
    assert name == "mutransfer"
    return subprocess.run(
        [*MUTRANSFER, *args], cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )


@pytest.mark.slow
def test_the_four_lines_shown_work_as_typed(tmp_path: Path) -> None:
    for line in EXAMPLES:
        done = sh(line, tmp_path)
        assert done.returncode == 0, done.stderr
    assert yaml.safe_load((tmp_path / "recipe.yaml").read_text())["width"] == 4096


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        "--model my_gpt.py:nano_gpt",
        "--model own_models/vit.py:model --data own_models/images.py:digits",
        "--hf config.json",
    ],
)
def test_a_first_spec_is_swept_as_it_is(options: str, tmp_path: Path) -> None:
    shutil.copy(ROOT / "tests" / "proxies" / "nano_gpt.py", tmp_path / "my_gpt.py")
    shutil.copy(ROOT / "recipes" / "hf-llama-tiny" / "config.json", tmp_path)
    shutil.copytree(ROOT / "recipes" / "own_models", tmp_path / "own_models")
    begun = sh(f"mutransfer init {options} -o first.yaml", tmp_path)
    assert begun.returncode == 0, begun.stderr
    following = begun.stderr.splitlines()[-1].removeprefix("next: ")
    assert following == "mutransfer sweep-proxy first.yaml"
    swept = sh(following, tmp_path)
    assert swept.returncode == 0, swept.stderr
    fitted = sh("mutransfer fit-exponents runs/first -o exponents.yaml", tmp_path)
    assert fitted.returncode == 0, fitted.stderr
    optima = yaml.safe_load((tmp_path / "exponents.yaml").read_text())["axes"]["lr"]["optimum"]
    assert [optimum["status"] for optimum in optima.values()] == ["ok"] * len(optima)
