"""Memory available to a process, and torch's errors when there is none left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mutransfer_cli.train import cgroups
from mutransfer_cli.train.device import available_memory, is_out_of_memory
from tests.conftest import CPU

MiB = 1 << 20
PREVIOUS = "CUDA error: operation failed due to a previous error during capture"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        torch.AcceleratorError("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation'"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later."),
        RuntimeError("CUDA driver error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDn`"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
    ],
    ids=str,
)
def test_out_of_memory_has_many_names(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize("ask", [lambda: torch.empty(1 << 50), lambda: np.empty(1 << 50)])
def test_so_it_has_on_a_cpu(ask: Callable[[], object]) -> None:
    """The errors are real, from torch's allocator and from numpy."""
    with pytest.raises((RuntimeError, MemoryError)) as refused:
        ask()
    assert is_out_of_memory(refused.value)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"),
        RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"),
        RuntimeError("out of resource: shared memory, Required: 264192, Hardware limit: 232448"),
        RuntimeError(PREVIOUS),
        KeyError("out of memory"),
    ],
    ids=str,
)
def test_other_errors_are_not_out_of_memory(error: Exception) -> None:
    assert not is_out_of_memory(error)


def raised(how: str) -> Exception:
    """Return the error that ends a capture in which memory ran out."""
    try:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        except RuntimeError as error:
            if how == "from it":
                raise RuntimeError(PREVIOUS) from error
            if how == "from None":
                raise RuntimeError(PREVIOUS) from None
            raise RuntimeError(PREVIOUS)  # noqa: B904
    except RuntimeError as error:
        return error


@pytest.mark.parametrize("how", ["from it", "beside it", "from None"])
def test_an_error_of_an_out_of_memory_error_is_one(how: str) -> None:
    last = ValueError("the last of three")
    last.__cause__ = raised(how)
    assert is_out_of_memory(last)


def test_errors_that_are_each_others_cause_end() -> None:
    one, other = RuntimeError(PREVIOUS), RuntimeError(PREVIOUS)
    one.__cause__, other.__cause__ = other, one
    assert not is_out_of_memory(one)


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write control groups as files; `own` is the kernel's line about the process."""
    monkeypatch.setattr(cgroups, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(cgroups, "CGROUPS", tmp_path)

    def write(own: str, **groups: str) -> None:
        (tmp_path / "own").write_text(own)
        for name, limit in groups.items():
            folder = tmp_path / name.replace("__", "/").strip("/")
            folder.mkdir(parents=True, exist_ok=True)
            first = name.startswith("memory")
            usage, prefix = ("usage_in_bytes", "total_") if first else ("current", "")
            (folder / f"memory.{'limit_in_bytes' if first else 'max'}").write_text(f"{limit}\n")
            (folder / f"memory.{usage}").write_text(f"{50 * MiB}\n")
            (folder / "memory.stat").write_text(
                f"anon {50 * MiB}\n{prefix}inactive_file {2 * MiB}\n{prefix}active_file {MiB}\n"
            )

    return write


def test_what_a_control_group_leaves_is_its_limit_less_what_it_uses(
    group: Callable[..., None],
) -> None:
    """Cached pages of files, which the kernel can reclaim, do not count as used."""
    group("0::/job\n", job=str(60 * MiB))
    assert available_memory(CPU) == 13 * MiB


def test_groups_above_bind_too(group: Callable[..., None]) -> None:
    group("0::/user/job\n", user=str(55 * MiB), user__job=str(60 * MiB))
    assert available_memory(CPU) == 8 * MiB


def test_in_a_container_the_top_is_the_own_group(group: Callable[..., None]) -> None:
    group("0::/docker/of_the_host\n", __=str(60 * MiB))
    assert available_memory(CPU) == 13 * MiB


def test_the_first_version_of_control_groups_binds_alike(group: Callable[..., None]) -> None:
    lines = "5:cpu,cpuacct:/job\n4:memory:/job\n1:name=systemd:/job\n0::/\n"
    group(lines, memory__job=str(60 * MiB), memory__=str((1 << 63) - 4096))
    assert available_memory(CPU) == 13 * MiB


def test_a_full_group_leaves_nothing(group: Callable[..., None]) -> None:
    group("0::/job\n", job=str(40 * MiB))
    assert available_memory(CPU) == 0


def test_without_a_limit_the_machine_is_left(group: Callable[..., None]) -> None:
    group("0::/job\n", job="max")
    assert available_memory(CPU) > 100 * MiB
    group("0::/elsewhere\n")
    assert available_memory(CPU) > 100 * MiB
