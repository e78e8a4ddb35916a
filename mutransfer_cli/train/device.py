"""The device of a run."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Literal

import torch

from mutransfer_cli.errors import InputError
from mutransfer_cli.torch_private import cpu_has_bf16

DeviceName = Literal["auto", "cpu", "cuda"]


def device_name(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return f"{device.type} {name}"


def choose_device(name: DeviceName, precision: str, deterministic: bool = False) -> torch.device:
    """The device of a run, with its matrix precision set.

    Raises:
        InputError: CUDA asked for and absent, or tf32 asked for without CUDA.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError(
            "--device cuda: torch sees no CUDA device; use --device cpu, or install a CUDA build "
            "of torch and check nvidia-smi"
        )
    device = torch.device("cuda" if available and name != "cpu" else "cpu")
    if precision == "tf32" and device.type == "cpu":
        raise InputError("train.precision: tf32 exists on CUDA only; use fp32 on a CPU")
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        if deterministic:
            make_deterministic()
    return device


def make_deterministic() -> None:
    """Same bits in every run on one kind of GPU; on a CPU that is so in any case."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before the first matrix product
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cuda.enable_cudnn_sdp(False)  # its backward is not


def slow_precision(device: torch.device, precision: str) -> str:
    """A sentence where the device only emulates the precision; else empty."""
    if precision == "bf16" and device.type == "cpu" and not cpu_has_bf16():
        return (
            "train.precision: this CPU has no bf16 units, and products in bf16 take 36 to 63 times "
            "as long as in fp32; use fp32"
        )
    return ""


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """CPU cores that this process may use: those it is bound to, within its cgroup's quota.

    Args:
        cgroup: where the cgroup of this process is mounted; version 2, or version 1 below `cpu`.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this platform
        cores = os.cpu_count() or 1
    quota = cpu_quota(cgroup)
    return cores if quota is None else max(1, min(cores, int(quota)))


def cpu_quota(cgroup: Path) -> float | None:
    """Cores' worth of time that a cgroup grants; None where it sets no limit."""
    for names in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):
        paths = [cgroup / name for name in names]
        if all(path.is_file() for path in paths):
            quota, period = " ".join(path.read_text() for path in paths).split()
            return None if quota in ("max", "-1") else int(quota) / int(period)
    return None
