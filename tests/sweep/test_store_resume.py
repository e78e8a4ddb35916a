"""A sweep that is stopped in any way ends with the results of one that was not."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from mutransfer_cli.train.ensemble import Ensemble
from mutransfer_cli.train.loop import Trainer
from mutransfer_cli.train.slots import Job
from tests.conftest import invoke, tiny_in, without_workers
from tests.sweep.running import Table, command, table

Run = Callable[..., Any]
WriteSpec = Callable[[Any], Path]
KILLS = 10


def sweep(
    spec: Path, folder: Path, *arguments: str, **options: Any
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command(spec, folder), *arguments], capture_output=True, text=True, **options
    )


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "trials.jsonl").read_bytes().splitlines()]


def losses(folder: Path) -> Table:
    """The losses in a folder whose records must be complete."""
    assert (folder / "trials.jsonl").read_bytes().endswith(b"\n")
    return table(folder)


def three_groups(raw: dict[str, Any]) -> dict[str, Any]:
    """Three groups of about half a second, each with one diverging trial."""
    raw["train"] |= {"steps": 60, "batch": 8, "eval_batches": 1}
    raw["sweep"]["axes"]["lr"] = [*(2.0**k for k in range(-9, -3)), 1e30]
    return raw


@pytest.fixture
def spec(tiny: dict[str, Any], write_spec: WriteSpec) -> Path:
    return write_spec(three_groups(tiny))


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the sweep, trained in this process."""
    folder = tmp_path_factory.mktemp("reference")
    (folder / "spec.yaml").write_text(yaml.safe_dump(three_groups(tiny_in(folder))))
    with pytest.MonkeyPatch.context() as patch:
        without_workers(patch)
        assert invoke("sweep-proxy", folder / "spec.yaml", "-o", folder / "out").exit_code == 0
    return folder / "out"


@pytest.fixture
def undisturbed(reference: Path, tmp_path: Path) -> Table:
    """The losses of the sweep, whose folder lies in `undisturbed`."""
    shutil.copytree(reference, tmp_path / "undisturbed")
    return losses(tmp_path / "undisturbed")


@pytest.mark.slow
def test_killed_at_random_moments(
    spec: Path,
    tiny: dict[str, Any],
    write_spec: WriteSpec,
    run: Run,
    tmp_path: Path,
) -> None:
    tiny["train"] |= {"steps": 15, "batch": 32}
    tiny["sweep"]["seeds"] = [0, 1, 2, 3]
    spec, folder, reference = write_spec(tiny), tmp_path / "killed", tmp_path / "reference"
    assert run("sweep-proxy", spec, "-o", reference).exit_code == 0
    started = time.monotonic()
    assert sweep(spec, reference).returncode == 0  # nothing to train: this is the start-up time
    start_up = time.monotonic() - started
    chance, recorded, killed_while_training = random.Random(0), Table(), 0
    for attempt in range(10 * KILLS):
        if killed_while_training and attempt >= KILLS:
            break
        if len(recorded) == len(losses(reference)):  # killed too late: start over
            shutil.rmtree(folder)
            recorded = {}
        with subprocess.Popen(command(spec, folder), stdout=-3, stderr=-3) as process:
            time.sleep(start_up + chance.uniform(-0.5, 2.0))
            process.send_signal(signal.SIGKILL)
            process.wait()
        before, recorded = recorded, table(folder)
        assert before.items() <= recorded.items(), "a finished trial was lost"
        killed_while_training += len(before) < len(recorded) < len(losses(reference))
    assert killed_while_training >= 1
    assert sweep(spec, folder).returncode == 0
    assert losses(folder) == losses(reference)


def test_only_what_is_missing_from_a_group_is_appended(
    spec: Path, tmp_path: Path, undisturbed: Table, run: Run
) -> None:
    folder = tmp_path / "undisturbed"
    path = folder / "trials.jsonl"
    whole = path.read_bytes().splitlines(True)
    assert json.loads(whole[-1])["kind"] == "throughput"
    path.write_bytes(b"".join(whole[:-3]) + whole[-3][:30])
    assert run("sweep-proxy", spec, "-o", folder).exit_code == 0
    kept = path.read_bytes().splitlines(True)
    assert kept[: len(whole) - 3] == whole[:-3]
    for old, new in zip(whole[-3:-1], kept[-3:-1], strict=True):
        again, before = json.loads(new), json.loads(old)
        for key in ("trial", "eval_loss", "train_loss"):
            assert again[key] == before[key]


def test_a_full_disk_keeps_the_records(
    spec: Path, tmp_path: Path, undisturbed: Table, run: Run
) -> None:
    """The kernel refuses writes beyond a file size, as it does on a full disk."""
    folder = tmp_path / "full"
    # room for the lines of one width and for the next width's trial that diverges at once
    lines = {"trials.jsonl": 1 + 7, "curves.jsonl": 7, "diagnostics.jsonl": 6 * 2 + 1 + 1}
    written = [
        b"".join((tmp_path / "undisturbed" / name).read_bytes().splitlines(True)[:count])
        for name, count in lines.items()
    ]
    limit = max(map(len, written)) + 100

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    result = sweep(spec, folder, "--workers", "1", preexec_fn=small_disk)
    assert result.returncode == 1
    assert "could not be written (File too large); the 8 records so far" in result.stderr
    assert "Traceback" not in result.stderr
    assert len(losses(folder)) == 8
    assert run("sweep-proxy", spec, "-o", folder).exit_code == 0
    assert losses(folder) == undisturbed


def test_a_killed_sweep_goes_on_from_its_checkpoint(
    spec: Path, tiny: dict[str, Any], write_spec: WriteSpec, tmp_path: Path, run: Run
) -> None:
    """The sweep is killed while all trials are in training and none is recorded.

    No trial starts again, although another number of workers makes other groups.
    """
    tiny["train"] |= {"steps": 400, "batch": 8, "eval_batches": 1}
    tiny["sweep"] = {"widths": [16], "axes": {"lr": [2**-7, 2**-6]}}
    spec, folder, reference = write_spec(tiny), tmp_path / "killed", tmp_path / "reference"
    assert run("sweep-proxy", spec, "-o", reference).exit_code == 0
    often = [*command(spec, folder), "--checkpoint-every", "0.01", "--workers", "2"]
    with subprocess.Popen(often, stdout=-3, stderr=-3) as process:
        while not (before := sorted(folder.glob("checkpoint-*.pt"))) and process.poll() is None:
            time.sleep(0.001)
        process.kill()
    assert not table(folder)
    assert before
    assert run("sweep-proxy", spec, "-o", folder).exit_code == 0
    assert losses(folder) == losses(reference)
    assert not list(folder.glob("*checkpoint*"))
    (speed,) = [line for line in lines_of(folder) if line["kind"] == "throughput"][:1]
    assert speed["tokens"] < 2 * 400 * 8 * 16, "the steps before the kill are not repeated"


def test_out_of_memory_goes_on_with_half_as_many_side_by_side(
    spec: Path, tmp_path: Path, undisturbed: Table, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Ensemble.start

    def refuse(self: Ensemble, plans: Any, seeds: Any) -> Any:
        if len(plans) > 2:
            torch.empty(1 << 50)  # a real refusal of the allocator
        return start(self, plans, seeds)

    monkeypatch.setattr(Ensemble, "start", refuse)
    result = run("sweep-proxy", spec, "-o", tmp_path / "small-memory")
    assert result.exit_code == 0, result.stderr
    assert "width 32: out of memory with 7 trials side by side; going on with 3" in result.stderr
    assert losses(tmp_path / "small-memory") == undisturbed
    sizes = {r["group_size"] for r in lines_of(tmp_path / "small-memory") if r["kind"] == "trial"}
    assert max(sizes) <= 2


def test_out_of_memory_fails_the_trials_and_a_rerun_retries_them(
    spec: Path, tmp_path: Path, undisturbed: Table, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code is 5 and the rest is recorded if the process may not allocate a wide group."""
    folder, train = tmp_path / "small-memory", Trainer.run

    def refuse(self: Trainer, jobs: Sequence[Job], *rest: Any) -> Any:
        if jobs[0].plan[0].shape[1] == 32:
            torch.empty(1 << 50)  # a real refusal of the allocator
        return train(self, jobs, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", refuse)
        result = run("sweep-proxy", spec, "-o", folder)
    assert result.exit_code == 5, result.stderr
    assert "7 trials failed, the first with: " in result.stderr
    assert "can't allocate memory" in result.stderr
    statuses = [status for status, _ in losses(folder).values()]
    assert statuses.count("failed") == 7
    assert run("sweep-proxy", spec, "-o", folder).exit_code == 0
    final = [r for r in lines_of(folder) if r["kind"] == "trial"]
    kept = {(r["width"], r["lr"], r["seed"]): (r["status"], r["eval_loss"]) for r in final}
    assert kept == undisturbed


def test_more_widths_rates_and_seeds_are_added(
    spec: Path,
    tiny: dict[str, Any],
    tmp_path: Path,
    write_spec: WriteSpec,
    undisturbed: Table,
    run: Run,
) -> None:
    folder = tmp_path / "undisturbed"
    before = (folder / "trials.jsonl").read_bytes()
    tiny["sweep"]["widths"] = [16, 24, 32, 40]
    tiny["sweep"]["axes"]["lr"] = [*tiny["sweep"]["axes"]["lr"], 2**-3]
    assert run("sweep-proxy", write_spec(tiny), "-o", folder).exit_code == 0
    after = (folder / "trials.jsonl").read_bytes()
    assert after.startswith(before)
    found = losses(folder)
    assert len(found) == 4 * 8
    assert {key: found[key] for key in undisturbed} == undisturbed


def test_a_reader_that_leaves_does_not_stop_the_sweep(
    spec: Path, tmp_path: Path, undisturbed: Table
) -> None:
    folder = tmp_path / "piped"
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(command(spec, folder), stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert "the reader of stdout has left" in result.stderr
    assert result.returncode == 0
    assert losses(folder) == undisturbed


def test_shards_together_are_the_sweep(
    spec: Path, tmp_path: Path, undisturbed: Table, run: Run
) -> None:
    found: Table = {}
    for part in (1, 2, 3):
        folder = tmp_path / f"part{part}"
        assert run("sweep-proxy", spec, "-o", folder, "--shard", f"{part}/3").exit_code == 0
        mine = losses(folder)
        assert not mine.keys() & found.keys()
        found |= mine
    assert found == undisturbed
    parts = [tmp_path / f"part{part}" / "trials.jsonl" for part in (1, 2, 3)]
    merged = run("fit-exponents", *parts).stdout
    assert merged == run("fit-exponents", tmp_path / "undisturbed").stdout


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b", "1/0"])
def test_a_shard_that_is_none_is_exit_code_2(spec: Path, run: Run, shard: str) -> None:
    result = run("sweep-proxy", spec, "--shard", shard)
    assert result.exit_code == 2
    assert "expected I/N with I from 1 to N" in result.stderr
