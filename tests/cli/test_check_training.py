"""Gates of `mutransfer check` that train: coordinates, and a held-out sweep."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mutransfer_cli.spec.records import Records
from mutransfer_cli.spec.sources import load_records
from tests.cli.test_transfer_own_model import CODE

Make = Callable[..., Records]
Write = Callable[..., Path]
Run = Callable[..., Any]

WIDTHS = ("--widths", "32,64,128,256")
SEEDS = ("--seeds", 4)
GLOBAL = {"name": "standard", "base_width": 16, "lr_rule": "global"}


def gate_of(result: Any, name: str) -> dict[str, Any]:
    """Return a gate as the document holds it."""
    (gate,) = [gate for gate in yaml.safe_load(result.stdout)["gates"] if gate["gate"] == name]
    return dict(gate)


@pytest.mark.parametrize(
    ("rule", "exit_code", "verdict"), [({}, 0, "pass"), (GLOBAL, 3, "fail")], ids=["mup", "global"]
)
def test_a_sweep_spec_is_put_through_the_coordinates(
    tiny: dict[str, Any],
    write_spec: Write,
    run: Run,
    rule: dict[str, Any],
    exit_code: int,
    verdict: str,
) -> None:
    tiny["parameterization"] |= rule
    result = run("check", write_spec(tiny), *WIDTHS, *SEEDS)
    assert result.exit_code == exit_code, result.stderr
    gate = gate_of(result, "coordinates")
    assert gate["verdict"] == verdict
    assert gate["evidence"]["widths"] == "32, 64, 128, 256"
    assert gate["evidence"]["seeds"] == "0, 1, 2, 3"
    assert gate["evidence"]["steps"] == "10"
    assert gate["evidence"]["lr"] == "0.015625"  # the middle of the grid
    failing = {m["quantity"] for m in gate["measures"] if m["verdict"] == "fail"}
    up = "effective update of blocks.*.up.weight, slope in width"
    assert (up in failing) == (verdict == "fail")


@pytest.mark.slow
def test_the_quickstart_passes_in_less_than_a_minute(run: Run) -> None:
    started = time.perf_counter()
    result = run("check", "quickstart")
    seconds = time.perf_counter() - started
    assert result.exit_code == 0, result.stderr
    assert gate_of(result, "coordinates")["evidence"]["widths"] == "64, 128, 256, 512"
    assert seconds < 60


def test_so_is_a_model_of_ones_own(
    tiny: dict[str, Any],
    write_spec: Write,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second model lacks the output factor that the rule asks for: its logits at init grow."""
    (tmp_path / "models_of_check.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    tiny["model"] = {"factory": "models_of_check:build"}
    right = run("check", write_spec(tiny), *WIDTHS, *SEEDS)
    assert right.exit_code == 0, right.stderr
    assert "blocks.*" in right.stdout
    (tmp_path / "models_of_check_too.py").write_text(
        CODE.replace("self.to_words(x)", "self.to_words(x) * (x.shape[-1] / 16) ** 0.5")
    )
    tiny["model"] = {"factory": "models_of_check_too:build"}
    wrong = run("check", write_spec(tiny), *WIDTHS, *SEEDS)
    assert wrong.exit_code == 3, wrong.stderr


def test_a_tolerance_of_the_coordinates(tiny: dict[str, Any], write_spec: Write, run: Run) -> None:
    asked = ("check", write_spec(tiny), *WIDTHS, *SEEDS, "--tolerance", "coordinates=0.2")
    found = {m["quantity"]: m for m in gate_of(run(*asked), "coordinates")["measures"]}
    assert found["change of embedding, slope in width"]["tolerance"] == 0.2
    assert found["change of readout, slope in width"]["tolerance"] == pytest.approx(0.24)


@pytest.fixture
def exponents(made: Make, write_records: Write, run: Run, tmp_path: Path) -> Path:
    path = tmp_path / "exponents.yaml"
    small = write_records(made(widths=(16, 24, 32, 48)), "small.jsonl")
    assert run("fit-exponents", small, "-o", path).exit_code == 0
    return path


def test_a_held_out_sweep_is_trained_once(
    tiny: dict[str, Any], exponents: Path, write_spec: Write, run: Run, tmp_path: Path
) -> None:
    spec, folder = write_spec(tiny), tmp_path / "larger"
    asked = ("check", exponents, "--spec", spec, "--gates", "transfer", "--held-out", 64)
    result = run(*asked, "--records", folder)
    assert result.exit_code in (0, 3, 4), result.stderr
    gate = gate_of(result, "transfer")
    assert "at width 64" in gate["evidence"]["forecast"]
    records = load_records([folder], print)
    assert {trial.width for trial in records.trials} == {64}
    assert len(records.trials) == 7
    before = (folder / "trials.jsonl").read_bytes()
    again = run(*asked, "--records", folder)
    assert gate_of(again, "transfer") == gate
    assert (folder / "trials.jsonl").read_bytes() == before
    assert run("check", exponents, "--gates", "transfer", "--records", folder).exit_code == (
        result.exit_code
    )


def test_records_are_joined_by_the_width_that_is_trained(
    tiny: dict[str, Any], made: Make, write_records: Write, write_spec: Write, run: Run
) -> None:
    records = write_records(made(widths=(16, 24, 32, 48)))
    asked = ("--spec", write_spec(tiny), "--gates", "transfer", "--held-out", 64)
    folder = records.parent / "wider"
    gate = gate_of(run("check", records, *asked, "--records", folder), "transfer")
    assert gate["evidence"]["fitted_widths"] == "16, 24, 32, 48"
    assert load_records([folder], print).trials


def test_what_the_budget_does_not_reach_is_inconclusive(
    tiny: dict[str, Any], exponents: Path, write_spec: Write, run: Run, tmp_path: Path
) -> None:
    asked = ("check", exponents, "--spec", write_spec(tiny), "--held-out", 64)
    result = run(*asked, "--records", tmp_path / "larger", "--budget", 1e-9)
    assert result.exit_code == 4
    for name in ("coordinates", "transfer"):
        (measure,) = gate_of(result, name)["measures"]
        assert measure["verdict"] == "inconclusive"
        assert "--budget 1e-09 is spent; give more minutes" in measure["sentence"]
    assert gate_of(result, "exponent")["verdict"] == "pass"


def test_the_spec_has_to_be_that_of_the_source(
    tiny: dict[str, Any], exponents: Path, write_spec: Write, run: Run
) -> None:
    tiny["train"]["steps"] = 12
    result = run("check", exponents, "--spec", write_spec(tiny))
    assert result.exit_code == 2
    assert "give the spec that it was made with" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--held-out", 32), "--held-out 32: lies inside the fitted widths, up to 48"),
        (("--held-out", 60), "--held-out: found 60, which model.head_size 8 does not divide"),
        (("--gates", "transfer"), "--held-out is missing"),
        (("--gates", "coordinates", "--widths", "16,32"), "takes 4 widths and 3 seeds at least"),
        (("--gates", "coordinates", "--seeds", "2"), "takes 4 widths and 3 seeds at least"),
        (("--widths", "16,20,24,32"), "widths: found 20"),
    ],
)
def test_what_cannot_be_trained(
    tiny: dict[str, Any],
    exponents: Path,
    write_spec: Write,
    run: Run,
    arguments: tuple[object, ...],
    sentence: str,
) -> None:
    gates = () if "--gates" in arguments or "--widths" in arguments else ("--gates", "transfer")
    result = run("check", exponents, "--spec", write_spec(tiny), *gates, *arguments)
    assert result.exit_code == 2
    assert sentence in result.stderr


def test_a_spec_is_checked_alone(tiny: dict[str, Any], write_spec: Write, run: Run) -> None:
    spec = write_spec(tiny)
    for arguments in (("--spec", spec), ("--held-out", 64)):
        result = run("check", spec, *arguments)
        assert result.exit_code == 2
        assert f"{arguments[0]}: is not for a sweep spec" in result.stderr
    result = run("check", spec, "--records", spec)
    assert result.exit_code == 2
    assert "is a sweep spec; run `mutransfer sweep-proxy" in result.stderr
