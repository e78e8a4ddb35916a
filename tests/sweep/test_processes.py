"""Worker processes, disturbed in many ways.

Whatever happens to them or to their driver, the table is that of an undisturbed sweep and no
process is left."""

from __future__ import annotations

import errno
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mutransfer_cli.sweep import spawn
from tests.conftest import invoke, tiny_in, without_workers
from tests.sweep.running import Table, command, of_session, table

Run = Callable[..., Any]

# in every worker the first attempt at the first trials of a width fails after a few steps
FAULTS = """
import sys
if "spawn_main" in " ".join(sys.orig_argv):
    import os, signal, threading
    from mutransfer_cli.sweep import worker
    train = worker.train
    def disturbed(assignment, sweep, mail):
        check, steps = mail.check, iter(range(100))
        def fault():
            first = min(trial.axes["lr"] for trial in assignment.trials) < 2**-8
            if not first or assignment.attempt > 1 or next(steps, 0) != 20:
                return check()
            match assignment.group.width:
                case 16: os.kill(os.getpid(), signal.SIGKILL)
                case 24: os._exit(3)
                case 32: raise RuntimeError("the kernel is gone")
                case 40: threading.Event().wait()
        mail.check = fault
        train(assignment, sweep, mail)
    worker.train = disturbed
"""
DEAD_AT_ONCE = """
import os, sys
if "spawn_main" in " ".join(sys.orig_argv):
    os._exit(7)
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four widths of four trials each, one of which diverges."""
    folder = tmp_path_factory.mktemp("spec")
    raw = tiny_in(folder)
    raw["train"] |= {"steps": 40, "batch": 8, "eval_batches": 1}
    raw["sweep"] = {"widths": [16, 24, 32, 40], "axes": {"lr": [2**-9, 2**-7, 2**-6, 1e30]}}
    (folder / "spec.yaml").write_text(yaml.safe_dump(raw))
    return folder / "spec.yaml"


@pytest.fixture(scope="module")
def undisturbed(spec: Path) -> Table:
    """The table of the sweep trained in this process."""
    with pytest.MonkeyPatch.context() as patch:
        without_workers(patch)
        assert invoke("sweep-proxy", spec, "-o", spec.parent / "undisturbed").exit_code == 0
    return table(spec.parent / "undisturbed")


def disturbed(folder: Path, program: str) -> dict[str, str]:
    """Return an environment in which every Python runs a program at its start."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(program)
    paths = filter(None, (str(folder), os.environ.get("PYTHONPATH")))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def test_workers_that_die_raise_and_hang_are_replaced(
    spec: Path, tmp_path: Path, undisturbed: Table
) -> None:
    result = subprocess.run(
        command(spec, tmp_path / "out", "--workers", 2, "--worker-timeout", 7),
        env=disturbed(tmp_path / "site", FAULTS),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert table(tmp_path / "out") == undisturbed
    said = result.stderr
    for width, fault in {
        16: "was lost, its process was ended by SIGKILL, as the system does when memory runs out",
        24: "was lost, its process ended with exit code 3",
        32: "failed launched step by step, RuntimeError: the kernel is gone (sitecustomize.py:",
        40: "was lost, it was silent for 7 s",
    }.items():
        (line,) = [line for line in said.splitlines() if line.startswith(f"width {width}: a ")]
        assert fault in line
        assert re.search(r"; they go on launched step by step, [12] side by side$", line)
    assert not list((tmp_path / "out").glob("*checkpoint*"))


@pytest.mark.parametrize("workers", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_records_do_not_depend_on_the_workers(
    spec: Path, tmp_path: Path, undisturbed: Table, workers: int
) -> None:
    result = subprocess.run(
        command(spec, tmp_path / "out", "--workers", workers), capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.encode() == (tmp_path / "out" / "trials.jsonl").read_bytes()
    assert table(tmp_path / "out") == undisturbed


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        signal.SIGKILL,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
    ],
)
def test_a_driver_that_ends_leaves_no_process_and_nothing_is_lost(
    spec: Path, tmp_path: Path, undisturbed: Table, run: Run, number: signal.Signals
) -> None:
    """A terminal sends Ctrl-C to all processes; clusters send other signals to the driver only."""
    folder = tmp_path / "ended"
    begun = subprocess.Popen(
        [*command(spec, folder, "--workers", 2), "--checkpoint-every", "0.1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with begun as process:
        assert process.stderr is not None
        while not process.stderr.readline().startswith("width "):
            assert process.poll() is None
        while not list(folder.glob("checkpoint-*.pt")):
            assert process.poll() is None
        assert len(of_session(process.pid)) >= 3, "a driver and two workers"
        send = os.killpg if number == signal.SIGINT else os.kill
        send(process.pid, number)
        _, said = process.communicate()
    until = time.monotonic() + 5
    while (left := of_session(process.pid)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left
    assert "Traceback" not in said
    recorded = table(folder)
    assert 0 < len(recorded) < len(undisturbed)
    if number != signal.SIGKILL:
        assert process.returncode == 130
        trials = f"{len(recorded)} trial{'s' if len(recorded) > 1 else ''}"
        assert f"Stopped: {trials} saved in {folder}. Run the same command to resume." in said
        assert "lost" not in said
        assert list(folder.glob("checkpoint-*.pt")), "saved at once"
    assert run("sweep-proxy", spec, "-o", folder).exit_code == 0
    assert table(folder) == undisturbed


@pytest.mark.slow
def test_workers_killed_at_random_moments(spec: Path, tmp_path: Path, undisturbed: Table) -> None:
    chance = random.Random(0)
    arguments = command(spec, tmp_path / "out", "--workers", 2, "--checkpoint-every", 0.1)
    kills = 0
    with subprocess.Popen(
        arguments, stdout=-3, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        while process.poll() is None and kills < 8:
            time.sleep(chance.uniform(0.2, 2.0))
            workers = [pid for pid, name in of_session(process.pid).items() if "spawn_main" in name]
            if workers:
                os.kill(chance.choice(workers), signal.SIGKILL)
                kills += 1
        _, said = process.communicate()
    assert kills
    assert process.returncode == 0, said
    assert table(tmp_path / "out") == undisturbed


def test_workers_that_die_at_once_leave_the_training_to_the_command(
    spec: Path, tmp_path: Path, undisturbed: Table
) -> None:
    result = subprocess.run(
        command(spec, tmp_path / "out", "--workers", 2),
        env=disturbed(tmp_path / "site", DEAD_AT_ONCE),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert (
        "worker processes cannot be started (3 died at once: its process ended with exit code 7); "
        "training in this process\n"
    ) in result.stderr
    assert table(tmp_path / "out") == undisturbed


@pytest.mark.processes
def test_so_does_a_system_that_starts_none(
    spec: Path, tmp_path: Path, undisturbed: Table, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(process: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(spawn.SPAWN.Process, "start", refuse)
    result = run("sweep-proxy", spec, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert "(Function not implemented); training in this process\n" in result.stderr
    assert table(tmp_path / "out") == undisturbed


def test_no_worker_is_a_usage_error(spec: Path, run: Run) -> None:
    result = run("sweep-proxy", spec, "--workers", 0)
    assert result.exit_code == 2
    assert "--workers" in result.stderr
