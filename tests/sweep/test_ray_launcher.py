"""A sweep on a Ray cluster ends as one on this machine, whatever is lost during it.

Most tests of faults are `slow`: each takes a minute on two busy cores.
"""

from __future__ import annotations

import http.server
import json
import os
import pickle
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from mutransfer_cli.cli.app import with_options
from mutransfer_cli.errors import InputError

pytest.importorskip("ray")

import ray
from ray.cluster_utils import Cluster

from mutransfer_cli.sweep import ray_launcher
from mutransfer_cli.sweep.messages import Assignment, Message, Refused
from mutransfer_cli.sweep.ray_launcher import connected
from tests.conftest import TINY
from tests.sweep.running import Table, command, command_line, of_session, table

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six groups of about half a second, some with a diverging trial."""
    folder = tmp_path_factory.mktemp("ray")
    (folder / "text.txt").write_text("".join(f"the {n} of {n * n % 97} and\n" for n in range(9000)))
    raw = {
        **TINY,
        "train": {"steps": 15, "batch": 64, "context": 32, "warmup": 2, "eval_batches": 1},
        "sweep": {
            "widths": [16, 24, 32],
            "axes": {"lr": [*(2.0**k for k in range(-9, -2)), 1e30]},
        },
    }
    (folder / "spec.yaml").write_text(yaml.safe_dump(raw))
    return folder / "spec.yaml"


@pytest.fixture(scope="module")
def undisturbed(spec: Path) -> Table:
    """The table of the sweep on this machine, with one thread as in a worker."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    folder = spec.parent / "local"
    subprocess.run(command(spec, folder), check=True, capture_output=True, env=environment)
    return table(folder)


class Machines:
    """A cluster of a head that trains nothing and nodes of one CPU."""

    def __init__(self) -> None:
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        self.nodes = [self.cluster.add_node(num_cpus=1) for _ in range(2)]

    @property
    def options(self) -> list[str]:
        return ["--engine", "ray", "--address", self.cluster.address]

    def add(self) -> None:
        self.nodes.append(self.cluster.add_node(num_cpus=1))

    def remove(self) -> None:
        """Kill a node that is training."""
        node = next(node for node in self.nodes if trainers(node))
        self.nodes.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)

    def trainers(self) -> list[int]:
        return [pid for node in self.nodes for pid in trainers(node)]

    def wait_for(self, condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
        while not condition():
            assert process.poll() is None, "the sweep ended too early"
            time.sleep(0.01)


def trainers(node: Any) -> list[int]:
    """Processes of a node that are training a group."""
    raylet = node.all_processes["raylet"][0].process.pid
    children = Path(f"/proc/{raylet}/task/{raylet}/children").read_text().split()
    return [int(pid) for pid in children if command_line(pid).startswith("ray::train_and_post")]


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    found = Machines()
    yield found
    found.cluster.shutdown()  # type: ignore[no-untyped-call]


def begin(arguments: list[str], **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options
    )


def end(process: subprocess.Popen[str]) -> str:
    """Return the messages of a sweep that ends well."""
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert "Traceback" not in said
    return said


def test_a_cluster_gives_what_this_machine_gives(
    spec: Path, undisturbed: Table, machines: Machines, tmp_path: Path, run: Run
) -> None:
    result = run("sweep-proxy", spec, "-o", tmp_path, *machines.options)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.encode() == (tmp_path / "trials.jsonl").read_bytes()
    assert "lost" not in result.stderr
    assert table(tmp_path) == undisturbed
    assert not list(tmp_path.glob("checkpoint*"))
    here, there = (gradients(folder) for folder in (spec.parent / "local", tmp_path))
    assert there.keys() == here.keys()
    for key, sizes in here.items():
        assert there[key] == pytest.approx(sizes, rel=1e-3), key


def gradients(folder: Path) -> dict[tuple[str, int], dict[str, float]]:
    """Gradient RMS by parameter, for every trial and measured step."""
    lines = map(json.loads, (folder / "diagnostics.jsonl").read_text().splitlines())
    return {(line["trial"], line["step"]): line.get("gradient_rms", {}) for line in lines}


@pytest.mark.slow
@pytest.mark.parametrize("kills", [5])
def test_workers_killed_at_random_moments(
    spec: Path, undisturbed: Table, machines: Machines, tmp_path: Path, kills: int
) -> None:
    chance = random.Random(kills)
    often = ["--checkpoint-every", "0.1"]
    with begin(command(spec, tmp_path, *machines.options, *often)) as process:
        for _ in range(kills):
            time.sleep(chance.uniform(0.0, 1.0))
            machines.wait_for(machines.trainers, process)
            os.kill(chance.choice(machines.trainers()), signal.SIGKILL)
        said = end(process)
    assert re.search(r"trials was lost, its process died; they go on launched step by step", said)
    assert table(tmp_path) == undisturbed
    assert gradients(tmp_path).keys() == gradients(spec.parent / "local").keys()
    assert not list(tmp_path.glob("checkpoint*"))


@pytest.mark.slow
@pytest.mark.parametrize("kills", [5])
def test_the_driver_killed_at_random_moments(
    spec: Path, undisturbed: Table, machines: Machines, tmp_path: Path, kills: int
) -> None:
    """The driver's tasks end with it, and no finished trial is repeated."""
    chance, recorded = random.Random(kills), dict[Any, Any]()
    arguments = [*command(spec, tmp_path, *machines.options), "--checkpoint-every", "0.1"]
    for kill in range(kills):
        with begin(arguments) as process:
            machines.wait_for(machines.trainers, process)
            if not kill:
                machines.wait_for(lambda: table(tmp_path), process)
            time.sleep(chance.uniform(0.0, 1.0))
            process.kill()
        before, recorded = recorded, table(tmp_path)
        assert before.items() <= recorded.items(), "a finished trial was lost"
    assert 0 < len(recorded) < len(undisturbed)
    with begin(arguments) as process:
        end(process)
    assert table(tmp_path) == undisturbed
    assert not list(tmp_path.glob("checkpoint*"))


@pytest.mark.slow
def test_a_worker_that_hangs_is_given_up(
    spec: Path,
    undisturbed: Table,
    machines: Machines,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train = ray_launcher.train_and_post

    def hang_once(assignment: Assignment, sweep: Any, inbox: Any) -> int:
        if assignment.attempt == 1 and assignment.group.width == 24:
            inbox.put.remote(pickle.dumps(Message(*assignment.key, None)))
            threading.Event().wait()
        return train(assignment, sweep, inbox)

    monkeypatch.setattr(ray_launcher, "train_and_post", hang_once)
    arguments = [*machines.options, "--worker-timeout", 10]
    result = run("sweep-proxy", spec, "-o", tmp_path, *arguments)
    assert result.exit_code == 0, result.stderr
    assert "width 24: a worker with 4 trials was lost, it was silent for 10 s" in result.stderr
    assert table(tmp_path) == undisturbed


@pytest.mark.slow
def test_a_group_whose_workers_die_three_times_fails_and_a_rerun_retries_it(
    spec: Path,
    undisturbed: Table,
    machines: Machines,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train = ray_launcher.train_and_post

    def die(assignment: Assignment, sweep: Any, inbox: Any) -> int:
        if assignment.group.width == 24:
            os.kill(os.getpid(), signal.SIGKILL)
        return train(assignment, sweep, inbox)

    with monkeypatch.context() as patch:
        patch.setattr(ray_launcher, "train_and_post", die)
        result = run("sweep-proxy", spec, "-o", tmp_path, *machines.options)
    assert result.exit_code == 5
    assert "8 trials failed, the first with: 3 workers were lost" in result.stderr
    assert "its process died" in result.stderr
    # Ray prints it too, on its driver's stdout
    assert result.stdout.encode() == (tmp_path / "trials.jsonl").read_bytes()
    assert run("sweep-proxy", spec, "-o", tmp_path, *machines.options).exit_code == 0
    lines = (tmp_path / "trials.jsonl").read_text().splitlines()
    trials = [record for record in map(json.loads, lines) if record["kind"] == "trial"]
    assert len(trials) == len(undisturbed) + 8
    final = {(r["width"], r["lr"], r["seed"]): (r["status"], r["eval_loss"]) for r in trials}
    assert final == undisturbed


@pytest.mark.slow
def test_nodes_go_and_come(
    spec: Path, undisturbed: Table, machines: Machines, tmp_path: Path
) -> None:
    often = ["--checkpoint-every", "0.1"]
    with begin(command(spec, tmp_path, *machines.options, *often)) as process:
        machines.wait_for(machines.trainers, process)
        machines.remove()
        machines.add()
        machines.wait_for(lambda: trainers(machines.nodes[-1]), process)
        said = end(process)
    assert "was lost, its node is gone; they go on in another" in said
    assert table(tmp_path) == undisturbed


@pytest.mark.slow
def test_a_full_disk_keeps_the_records(
    spec: Path, undisturbed: Table, machines: Machines, tmp_path: Path, run: Run
) -> None:
    """The kernel refuses the driver's writes beyond a file size, as on a full disk.

    The remaining trials are trained in this process.
    """
    names = ("trials.jsonl", "curves.jsonl", "diagnostics.jsonl")
    files = [spec.parent / "local" / name for name in names]
    limit = max(file.stat().st_size for file in files) // 2

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    arguments = command(spec, tmp_path, *machines.options)
    with begin(arguments, preexec_fn=small_disk) as process:
        _, said = process.communicate()
    assert process.returncode == 1
    assert "could not be written (File too large)" in said
    assert "Traceback" not in said
    assert 0 < len(table(tmp_path)) < len(undisturbed)
    assert run("sweep-proxy", spec, "-o", tmp_path).exit_code == 0
    assert table(tmp_path) == undisturbed


@pytest.mark.slow
def test_ctrl_c_keeps_the_records_and_leaves_no_process(
    spec: Path, undisturbed: Table, tmp_path: Path, run: Run
) -> None:
    """The command starts its own Ray; a terminal interrupts all processes at once."""
    arguments = command(spec, tmp_path, "--engine", "ray", "--device", "cpu")
    with begin(arguments, start_new_session=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "spec: 24 trials at 3 widths in all\n"
        first = process.stderr.readline()  # the line after the first finished trials
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate()
    assert first.startswith("width ")
    assert process.returncode == 130, said
    assert "Run the same command to resume." in said
    assert "Traceback" not in said
    assert not of_session(process.pid)
    assert 0 < len(table(tmp_path)) < len(undisturbed)
    assert run("sweep-proxy", spec, "-o", tmp_path).exit_code == 0
    assert table(tmp_path) == undisturbed


@pytest.mark.slow
def test_a_trial_that_raises_ends_the_sweep_with_its_sentence(
    spec: Path, machines: Machines, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(assignment: Assignment, sweep: Any, inbox: Any) -> int:
        refused = Refused(InputError(f"width {assignment.group.width}: no"))
        ray.get(inbox.put.remote(pickle.dumps(Message(*assignment.key, refused))))
        return 1

    monkeypatch.setattr(ray_launcher, "train_and_post", refuse)
    result = run("sweep-proxy", spec, "-o", tmp_path, *machines.options)
    assert result.exit_code == 2
    assert "\nError: width 32: no\n" in f"\n{result.stderr}"


@pytest.fixture
def deaf_addresses() -> Iterator[dict[str, str]]:
    """Addresses without a listener, with a listener that is not Ray, and without a route."""
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    threading.Thread(target=web.serve_forever).start()
    with socket.create_server(("127.0.0.1", 0)) as silent, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield {
            f"127.0.0.1:{closed.getsockname()[1]}": "refused",
            f"127.0.0.1:{silent.getsockname()[1]}": "no answer in",
            f"127.0.0.1:{web.server_port}": "",
            "10.255.255.1:6379": "",
            "no-such-host.invalid:6379": "",
        }
    web.shutdown()
    web.server_close()


def test_an_address_that_does_not_answer_fails_soon(deaf_addresses: dict[str, str]) -> None:
    def refusal(address: str) -> tuple[str, float]:
        started = time.monotonic()
        with pytest.raises(InputError) as raised, connected(address):
            pass
        return with_options(raised.value), time.monotonic() - started

    with ThreadPoolExecutor() as pool:
        answers = pool.map(refusal, deaf_addresses)
    for (address, reason), (sentence, seconds) in zip(deaf_addresses.items(), answers, strict=True):
        assert sentence.startswith(f"--address {address}: no Ray cluster answers there (")
        assert reason in sentence
        assert "ray start --head" in sentence
        assert seconds < 30


@pytest.mark.parametrize("address", ["head", "ray://head:10001", "head:port"])
def test_an_address_that_is_none(spec: Path, tmp_path: Path, run: Run, address: str) -> None:
    options = ["--engine", "ray", "--address", address]
    result = run("sweep-proxy", spec, "-o", tmp_path, *options)
    assert result.exit_code == 2
    assert "expected auto or HOST:PORT" in result.stderr


def test_ray_is_not_installed(
    spec: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = run("sweep-proxy", spec, "-o", tmp_path, "--engine", "ray")
    assert result.exit_code == 2
    assert result.stderr == ("Error: --engine ray: needs ray; run `pip install ray`\n")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--address", "auto"], "--address: is for --engine ray"),
        (["--num-gpus", 0.5], "--num-gpus: is for --engine ray"),
        (["--engine", "ray", "--workers", 2], "--workers: is for --engine local"),
        (["--engine", "ray", "--num-gpus", 2], "--num-gpus 2: expected more than 0 and at most 1"),
        (["--worker-timeout", 0], "--worker-timeout 0: expected more than 0"),
    ],
)
def test_options_that_do_not_go_together(
    spec: Path, tmp_path: Path, run: Run, options: list[object], sentence: str
) -> None:
    result = run("sweep-proxy", spec, "-o", tmp_path, *options)
    assert result.exit_code == 2
    assert sentence in result.stderr
