from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli.torch_private import cpu_has_bf16

WriteSpec = Callable[[Any], Path]
Run = Callable[..., Any]


def test_records_go_to_the_folder_and_to_a_pipe(
    tiny: dict[str, Any], write_spec: WriteSpec, run: Run, tmp_path: Path
) -> None:
    result = run("sweep-proxy", write_spec(tiny), "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert result.stdout == (tmp_path / "out" / "trials.jsonl").read_text()
    header, *lines = map(json.loads, result.stdout.splitlines())
    assert (header["schema"], header["kind"]) == ("mutransfer.trial/1", "sweep")
    assert [p["role"] for p in header["base_plan"]] == ["embedding", *["hidden"] * 4, "readout"]
    trials = [line for line in lines if line["kind"] == "trial"]
    assert len(trials) == 3 * 7
    for trial in trials:
        assert trial["status"] == "ok"
        assert 0 < trial["eval_loss"] < 6
        assert (trial["steps"], trial["tokens"]) == (10, 10 * 2 * 16)
    curves = [json.loads(c) for c in (tmp_path / "out" / "curves.jsonl").read_text().splitlines()]
    assert {curve["trial"] for curve in curves} == {trial["trial"] for trial in trials}
    assert curves[0]["step"] == list(range(1, 11))


def test_the_throughput_of_each_width_is_a_record(
    tiny: dict[str, Any], write_spec: WriteSpec, run: Run, tmp_path: Path
) -> None:
    out = run("sweep-proxy", write_spec(tiny), "-o", tmp_path / "out").stdout
    lines = [json.loads(line) for line in out.splitlines()]
    speeds = [line for line in lines if line["kind"] == "throughput"]
    assert [speed["width"] for speed in speeds] == [32, 24, 16], "the largest first"
    for speed in speeds:
        of_width = [r for r in lines if r["kind"] == "trial" and r["width"] == speed["width"]]
        assert speed["tokens"] == sum(trial["tokens"] for trial in of_width)
        per_second = speed["tokens"] / speed["seconds"]
        assert speed["tokens_per_second"] == pytest.approx(per_second, rel=1e-2)
        assert speed["trials_per_hour"] == pytest.approx(3600 * per_second / 320, rel=1e-2)
        flops = sum(trial["flops"] for trial in of_width) / speed["seconds"]
        assert speed["flops_per_second"] == pytest.approx(flops, rel=1e-2)
        assert speed["of_peak"] == pytest.approx(flops / speed["matrix_peak"], rel=1e-2)
        assert 0 < speed["of_peak"] < 1


def test_finished_trials_are_not_run_again_but_piped_again(
    tiny: dict[str, Any], write_spec: WriteSpec, run: Run, tmp_path: Path
) -> None:
    spec, folder = write_spec(tiny), tmp_path / "out"
    first = run("sweep-proxy", spec, "-o", folder)
    second = run("sweep-proxy", spec, "-o", folder)
    assert second.stdout == first.stdout == (folder / "trials.jsonl").read_text()
    tiny["sweep"]["widths"] = [16, 40]
    third = run("sweep-proxy", write_spec(tiny), "-o", folder)
    assert third.stdout.startswith(first.stdout)
    assert third.stdout.count('"kind": "trial"') == 4 * 7


def test_the_default_folder_is_named_for_the_spec(
    tiny: dict[str, Any],
    write_spec: WriteSpec,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("sweep-proxy", write_spec(tiny)).exit_code == 0
    assert (tmp_path / "runs" / "spec" / "trials.jsonl").exists()


def test_people_read_progress_and_a_summary_on_stderr(
    tiny: dict[str, Any], write_spec: WriteSpec, run: Run, tmp_path: Path
) -> None:
    tiny["sweep"]["axes"]["lr"] = [0.01, 0.02, 1e30]
    err = run("sweep-proxy", write_spec(tiny), "-o", tmp_path / "out").stderr
    assert "width 16: 3 of 3 trials done, 1 diverged, best lr 0.0" in err
    assert "tokens/s" in err
    *_, summary, records = err.splitlines()
    assert summary.split()[:5] == ["32", "3", "3", "2", "1"]
    assert records == f"records: {tmp_path / 'out' / 'trials.jsonl'}"


def test_a_diverged_trial_is_a_record(
    tiny: dict[str, Any], write_spec: WriteSpec, run: Run, tmp_path: Path
) -> None:
    tiny["sweep"] = {"widths": [16], "axes": {"lr": [0.01, 1e30]}}
    result = run("sweep-proxy", write_spec(tiny), "-o", tmp_path / "out")
    assert result.exit_code == 0
    diverged = json.loads(result.stdout.splitlines()[1])  # it frees its slot before the other ends
    assert diverged["status"] == "diverged"
    assert (diverged["train_loss"], diverged["eval_loss"]) == (None, None)
    assert 1 < diverged["diverged_at"] == diverged["steps"] < 10


def test_a_dry_run_prices_and_trains_nothing(
    tiny: dict[str, Any], write_spec: WriteSpec, run: Run, tmp_path: Path
) -> None:
    result = run("sweep-proxy", write_spec(tiny), "-o", tmp_path / "out", "--dry-run")
    assert result.exit_code == 0
    for word in ("trials", "parameters", "FLOPs", "memory", "time"):
        assert word in result.stdout
    row = next(line.split() for line in result.stdout.splitlines() if line.strip().startswith("16"))
    assert row[:4] == ["16", "7", "7", "11,264"]
    assert not (tmp_path / "out").exists()


def test_a_dry_run_for_a_cluster_says_whose_price_it_is(
    tiny: dict[str, Any], write_spec: WriteSpec, run: Run
) -> None:
    result = run("sweep-proxy", write_spec(tiny), "--dry-run", "--engine", "ray")
    assert result.exit_code == 0
    assert "the price is that of this machine" in result.stderr


def test_a_dry_run_counts_what_is_recorded(
    tiny: dict[str, Any], write_spec: WriteSpec, run: Run, tmp_path: Path
) -> None:
    run("sweep-proxy", write_spec(tiny), "-o", tmp_path / "out")
    tiny["sweep"]["widths"] = [16, 40]
    out = run("sweep-proxy", write_spec(tiny), "-o", tmp_path / "out", "--dry-run").stdout
    rows = [line.split()[:3] for line in out.splitlines() if line.strip()[:2] in ("16", "40")]
    assert rows == [["16", "7", "0"], ["40", "7", "7"]]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"train": {"stepz": 3}}, ": train: unknown key 'stepz'; did you mean 'steps'?"),
        ({"sweep": {"axes": {"lr": [-1]}, "widths": [16]}}, "sweep.axes.lr: "),
        ({"sweep": {"axes": {"lr": [0]}, "widths": [16]}}, "sweep.axes.lr: "),
        ({"sweep": {"axes": {"lr": [1]}, "widths": [20]}}, "8 does not divide; use 16 or 24"),
        ({"data": {"source": "text", "path": "gone.txt"}}, "gone.txt does not exist"),
        ({"train": {"steps": 10, "batch": 4000}}, "the train part has "),
        ({"train": {"steps": 10, "precision": "tf32"}}, "tf32 exists on CUDA only"),
    ],
)
def test_a_bad_spec_is_one_sentence_and_exit_code_2(
    tiny: dict[str, Any],
    write_spec: WriteSpec,
    run: Run,
    tmp_path: Path,
    change: dict[str, Any],
    sentence: str,
) -> None:
    result = run(
        "sweep-proxy", write_spec(tiny | change), "-o", tmp_path / "out", "--device", "cpu"
    )
    assert result.exit_code == 2
    *before, error = result.stderr.splitlines()
    assert before in ([], ["spec: 21 trials at 3 widths in all"])
    assert error.startswith("Error: ")
    assert sentence in error
    assert result.stdout == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [1", "spec.yaml line 1, column 4: not YAML: this [ is not closed"),
        (
            "a: 2020-13-45",
            "spec.yaml line 1, column 4: not YAML: 2020-13-45 looks like a date and is none",
        ),
        ("a: 1\nb: 2\na: 3", "spec.yaml line 3, column 1: not YAML: key 'a' is written twice"),
        ("- 1\n- 2", "spec.yaml line 1, column 1: expected a mapping of keys, found [1, 2]"),
        ("", "spec.yaml: is empty"),
        ("schema: mutransfer.recipe/1", "spec.yaml: is a recipe; give a sweep spec in YAML"),
    ],
)
def test_a_file_that_is_no_spec(write_spec: WriteSpec, run: Run, text: str, sentence: str) -> None:
    result = run("sweep-proxy", write_spec(text))
    assert result.exit_code == 2
    assert sentence in result.stderr


def test_specs_that_are_missing_or_unreadable(run: Run, tmp_path: Path) -> None:
    result = run("sweep-proxy", "quickstrat")
    assert result.exit_code == 2
    assert "no such spec" in result.stderr
    assert "did you mean quickstart, quickstart-standard or " in result.stderr
    assert "is a folder; give a sweep spec in YAML" in run("sweep-proxy", tmp_path).stderr
    assert run("sweep-proxy", "x" * 5000).exit_code == 2
    assert run("sweep-proxy", "quickstart", "-o", "-").exit_code == 2
    (tmp_path / "binary.yaml").write_bytes(b"a: \xff\n")
    assert "binary.yaml: is not a text file" in run("sweep-proxy", tmp_path / "binary.yaml").stderr


def test_an_output_folder_that_cannot_be_written(
    tiny: dict[str, Any], write_spec: WriteSpec, run: Run, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    result = run("sweep-proxy", write_spec(tiny), "-o", tmp_path / "file")
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


def test_a_folder_of_another_protocol(
    tiny: dict[str, Any], write_spec: WriteSpec, run: Run, tmp_path: Path
) -> None:
    run("sweep-proxy", write_spec(tiny), "-o", tmp_path / "out")
    tiny["train"]["steps"] = 11
    result = run("sweep-proxy", write_spec(tiny), "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert "holds another protocol; train.steps: 10 there, 11 here" in result.stderr


def test_cuda_without_cuda(tiny: dict[str, Any], write_spec: WriteSpec, run: Run) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    result = run("sweep-proxy", write_spec(tiny), "--device", "cuda")
    assert result.exit_code == 2
    assert "--device cuda: torch sees no CUDA device; use the CPU" in result.stderr


def test_one_width_is_a_sweep_whose_fit_is_insufficient(
    tiny: dict[str, Any], write_spec: WriteSpec, run: Run, tmp_path: Path
) -> None:
    tiny["sweep"]["widths"] = [16]
    assert run("sweep-proxy", write_spec(tiny), "-o", tmp_path / "out").exit_code == 0
    fit = run("fit-exponents", tmp_path / "out")
    assert fit.exit_code == 4
    assert "status: insufficient" in fit.stdout
    assert "exponent: null" in fit.stdout


def test_debug_shows_the_traceback() -> None:
    def stderr_of(*args: str) -> str:
        command = [sys.executable, "-m", "mutransfer_cli", *args, "sweep-proxy", "no-such-spec"]
        return subprocess.run(command, capture_output=True, text=True).stderr

    assert stderr_of().startswith("Error: no-such-spec: no such spec")
    assert "Traceback" in stderr_of("--debug")


def test_how_a_sweep_is_run_is_no_part_of_its_protocol(
    tiny: dict[str, Any], write_spec: WriteSpec, run: Run, tmp_path: Path
) -> None:
    run("sweep-proxy", write_spec(tiny), "-o", tmp_path / "out")
    again = run("sweep-proxy", write_spec(tiny | {"deterministic": True}), "-o", tmp_path / "out")
    assert again.exit_code == 0
    assert again.stdout.count('"kind": "trial"') == 3 * 7


@pytest.mark.skipif(cpu_has_bf16(), reason="this CPU has bf16 units")
def test_a_precision_that_the_cpu_only_emulates_is_warned_of(
    tiny: dict[str, Any], write_spec: WriteSpec, run: Run, tmp_path: Path
) -> None:
    tiny["train"]["precision"] = "bf16"
    tiny["sweep"] = {"widths": [16], "axes": {"lr": [0.01]}}
    result = run("sweep-proxy", write_spec(tiny), "-o", tmp_path / "out", "--device", "cpu")
    assert result.exit_code == 0
    assert "warning: train.precision: this CPU has no bf16 units" in result.stderr
