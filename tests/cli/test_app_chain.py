"""The three commands joined by files and by pipes, with good and bad input."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

WriteSpec = Callable[[Any], Path]
Run = Callable[..., Any]

MUTRANSFER = f"{shlex.quote(sys.executable)} -m mutransfer_cli"


@pytest.fixture
def folder(tiny: dict[str, Any], write_spec: WriteSpec, run: Run, tmp_path: Path) -> Path:
    """A finished sweep that is long enough for every width to have a bowl."""
    tiny["train"] |= {"steps": 60, "batch": 8, "eval_batches": 4}
    tiny["sweep"]["axes"]["lr"] = {"from": "2^-7", "to": "2^0"}
    assert run("sweep-proxy", write_spec(tiny), "-o", tmp_path / "out").exit_code == 0
    return tmp_path / "out"


def test_one_pipe_gives_the_recipe_of_three_commands(
    folder: Path, run: Run, tmp_path: Path
) -> None:
    exponents, recipe = tmp_path / "exponents.yaml", tmp_path / "recipe.yaml"
    fitted = run("fit-exponents", folder, "-o", exponents)
    assert (fitted.exit_code, fitted.stdout) == (0, "")
    assert run("transfer", exponents, "--width", 96, "-o", recipe).exit_code == 0
    spec, again = tmp_path / "spec.yaml", tmp_path / "again"
    pipe = (
        f"{MUTRANSFER} sweep-proxy {spec} -o {again} | {MUTRANSFER} fit-exponents"
        f" | {MUTRANSFER} transfer --width 96"
    )
    result = subprocess.run(pipe, shell=True, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout == recipe.read_text()
    found = yaml.safe_load(result.stdout)
    assert (found["schema"], found["width"]) == ("mutransfer.recipe/1", 96)


def test_exponents_hold_what_the_next_command_needs(folder: Path, run: Run) -> None:
    result = run("fit-exponents", folder)
    found = yaml.safe_load(result.stdout)
    assert found["schema"] == "mutransfer.exponents/1"
    axis = found["axes"]["lr"]
    assert axis["status"] == "ok"
    exponent = axis["exponent"]
    assert exponent["low"] < exponent["value"] < exponent["high"]
    assert exponent["level"] == 0.95
    assert set(axis["optimum"]) == {16, 24, 32}
    for optimum in axis["optimum"].values():
        assert optimum["low"] < optimum["value"] < optimum["high"]
        assert optimum["status"] == "ok"
    header = json.loads((folder / "trials.jsonl").read_text().splitlines()[0])
    assert found["protocol"] == header["protocol"]
    assert found["protocol_hash"] == header["protocol_hash"]
    assert json.loads(run("fit-exponents", folder, "--json").stdout)["axes"]["lr"]["status"] == "ok"
    assert "exponent of lr: " in result.stderr
    assert "eval loss above the best of its width" in result.stderr


def test_files_folders_and_stdin_are_one_input(folder: Path, run: Run, tmp_path: Path) -> None:
    path = folder / "trials.jsonl"
    expected = run("fit-exponents", folder).stdout
    assert run("fit-exponents", path).stdout == expected
    assert run("fit-exponents", stdin=path.read_bytes()).stdout == expected
    assert run("fit-exponents", "-", stdin=path.read_bytes()).stdout == expected
    header, *trials = path.read_bytes().splitlines(True)
    for name, part in (("a.jsonl", trials[:10]), ("b.jsonl", trials[10:])):
        (tmp_path / name).write_bytes(header + b"".join(part))
    assert run("fit-exponents", tmp_path / "a.jsonl", tmp_path / "b.jsonl").stdout == expected


def test_an_optimum_at_the_edge_is_refused_with_the_side(
    tiny: dict[str, Any], write_spec: WriteSpec, run: Run, tmp_path: Path
) -> None:
    tiny["sweep"]["axes"]["lr"] = {"from": "2^-16", "to": "2^-10"}
    run("sweep-proxy", write_spec(tiny), "-o", tmp_path / "low")
    result = run("fit-exponents", tmp_path / "low", "-o", tmp_path / "exponents.yaml")
    assert result.exit_code == 4
    axis = yaml.safe_load((tmp_path / "exponents.yaml").read_text())["axes"]["lr"]
    assert (axis["status"], axis["exponent"]) == ("insufficient", None)
    for optimum in axis["optimum"].values():
        assert (optimum["status"], optimum["side"]) == ("not_bracketed", "high")
    assert "add higher values of lr" in result.stderr
    refused = run("transfer", tmp_path / "exponents.yaml", "--width", 96)
    assert refused.exit_code == 4
    assert refused.stderr.startswith("Error: the exponents hold no usable fit of lr: 0 of 3 widths")
    assert refused.stdout == ""


def test_a_torn_last_line_is_skipped_with_a_warning(folder: Path, run: Run) -> None:
    whole = (folder / "trials.jsonl").read_bytes()
    result = run("fit-exponents", stdin=whole + whole.splitlines(True)[-1][:50])
    assert result.exit_code == 0
    assert "warning: stdin: the last line is cut short and was skipped" in result.stderr


def test_a_malformed_line_is_named(folder: Path, run: Run) -> None:
    lines = (folder / "trials.jsonl").read_bytes().splitlines(True)
    lines[3] = lines[3][:50] + b"\n"
    result = run("fit-exponents", stdin=b"".join(lines))
    assert result.exit_code == 2
    assert "stdin line 4: not a JSON record" in result.stderr
    (folder / "trials.jsonl").write_bytes(b"".join(lines))
    assert "trials.jsonl line 4: not a JSON record" in run("fit-exponents", folder).stderr


@pytest.mark.parametrize(
    ("args", "stdin", "sentence"),
    [
        (["fit-exponents"], "", "stdin: holds no records; run `mutransfer sweep-proxy` first"),
        (["fit-exponents", "gone"], "", "gone: cannot be read (No such file or directory)"),
        (["fit-exponents"], "width,lr\n", "stdin: has no rows; give one row per run"),
        (["transfer", "--width", "64"], "", "stdin: is empty"),
        (["transfer", "--width", "64"], "a: [", "not YAML"),
        (["transfer", "--width", "64"], "schema: x", "expected `schema: mutransfer.exponents/1`"),
        (["transfer", "--width", "0"], "", "--width"),
        (["transfer"], "", "--width"),
        (["transfer", "--width", "64", "--target", "depth"], "", "expected KEY=VALUE"),
    ],
)
def test_bad_input_is_exit_code_2(run: Run, args: list[str], stdin: str, sentence: str) -> None:
    result = run(*args, stdin=stdin)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_results_reach_devices_and_files_that_exist(folder: Path, run: Run, tmp_path: Path) -> None:
    assert run("fit-exponents", folder, "-o", "/dev/null").exit_code == 0
    assert Path("/dev/null").is_char_device()
    target = tmp_path / "exponents.yaml"
    target.write_text("old")
    assert run("fit-exponents", folder, "-o", target).exit_code == 0
    assert target.read_text().splitlines()[1] == "schema: mutransfer.exponents/1"
    assert not list(tmp_path.glob(".*.tmp"))
    refused = run("fit-exponents", folder, "-o", tmp_path / "gone" / "x.yaml")
    assert refused.exit_code == 2
    assert "cannot be written (No such file or directory)" in refused.stderr


def test_targets_that_differ_are_warned_of_on_stderr_and_in_the_recipe(
    folder: Path, run: Run
) -> None:
    exponents = run("fit-exponents", folder).stdout
    result = run("transfer", "--width", 64, "--target", "depth=24", stdin=exponents)
    assert result.exit_code == 0
    assert "warning: depth: the fit was made under 1 and the target has 24" in result.stderr
    warnings = yaml.safe_load(result.stdout)["warnings"]
    assert any("depth: the fit was made under 1" in warning for warning in warnings)


def test_the_training_loss_of_a_sweep_can_be_fitted_too(folder: Path, run: Run) -> None:
    by_eval, by_train = (
        yaml.safe_load(run("fit-exponents", folder, *metric).stdout)
        for metric in ([], ["--metric", "train_loss"])
    )
    assert (by_eval["metric"], by_train["metric"]) == ("eval_loss", "train_loss")
    assert by_eval["axes"]["lr"]["optimum"] != by_train["axes"]["lr"]["optimum"]
    result = run("fit-exponents", folder, "--metric", "accuracy")
    assert result.exit_code == 2
    assert "records have eval_loss and train_loss" in result.stderr
