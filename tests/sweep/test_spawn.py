"""The number of worker processes, and their settings."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mutransfer_cli.cli.app import with_options
from mutransfer_cli.errors import InputError
from mutransfer_cli.sweep import spawn


def test_as_many_workers_as_there_are_cores_or_gpus_and_trials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spawn, "usable_cores", lambda: 6)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert spawn.worker_count(None, "cpu", trials=100) == 6
    assert spawn.worker_count(8, "cpu", trials=100) == 8
    assert spawn.worker_count(None, "cpu", trials=5) == 5
    assert spawn.worker_count(None, "cuda", trials=100) == 4
    assert spawn.worker_count(2, "cuda", trials=100) == 2
    with pytest.raises(
        InputError, match=r"workers 5: torch sees 4 CUDA devices, and each"
    ) as error:
        spawn.worker_count(5, "cuda", trials=100)
    assert with_options(error.value).startswith("--workers 5: torch sees 4")


def test_workers_are_counted_and_prepared_without_torch() -> None:
    program = (
        "import sys\n"
        "from mutransfer_cli.sweep.spawn import environments, surely_cpu, worker_count\n"
        "surely_cpu('cpu'), environments('cpu', worker_count(3, 'cpu', trials=9))\n"
        "print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
    assert out == "False\n"


@pytest.mark.processes
def test_each_worker_has_one_thread_or_a_gpu_of_those_visible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert spawn.environments("cpu", 2) == [{"OMP_NUM_THREADS": "1"}] * 2
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert spawn.environments("cuda", 2) == [
        {"CUDA_VISIBLE_DEVICES": "0"},
        {"CUDA_VISIBLE_DEVICES": "1"},
    ]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-1f,2")
    assert spawn.environments("cuda", 2) == [
        {"CUDA_VISIBLE_DEVICES": "5"},
        {"CUDA_VISIBLE_DEVICES": "GPU-1f"},
    ]


def test_a_machine_with_a_gpu_file_may_train_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spawn, "GPU_FILES", (tmp_path / "gpu",))
    assert spawn.surely_cpu("auto")
    (tmp_path / "gpu").touch()
    assert not spawn.surely_cpu("auto")
    assert spawn.surely_cpu("cpu")


def test_variables_and_signals_are_as_before_once_a_process_is_started() -> None:
    before = dict(os.environ)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with spawn.surroundings({"OMP_NUM_THREADS": "7"}):
        assert os.environ["OMP_NUM_THREADS"] == "7"
        assert os.environ["PYTHONWARNINGS"].endswith("ignore:resource_tracker")
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) >= spawn.SIGNALS
    assert dict(os.environ) == before
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == blocked
