"""The device of a run: choosing it, its free memory and how it runs out, its best speed."""

from __future__ import annotations

import math
import os
import platform
import re
import time
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from mutransfer_cli.errors import InputError
from mutransfer_cli.torch_private import cpu_has_bf16
from mutransfer_cli.train.cgroups import tightest

DeviceName = Literal["auto", "cpu", "cuda"]

# by controllers, a control group's files of limit and use, and the key of its file pages
CGROUP_FILES = {
    "": ("memory.max", "memory.current", r"(?:in)?active_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", r"total_(?:in)?active_file"),
}
# how torch, the CUDA runtime, driver and libraries, Triton and the system word it
AVAILABLE = re.compile(r"^MemAvailable: *(\d+) kB", re.MULTILINE)
OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|_STATUS_(\w+_)?ALLOC(ATION)?_FAILED", re.IGNORECASE
)
DTYPES = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp64": torch.float64,
}
REPETITIONS = 3
LONG = 0.5  # seconds; a product that takes longer needs neither warm-up nor repetition


def device_name(device: torch.device) -> str:
    """Type and model of a device, as in `cuda NVIDIA H100`."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return f"{device.type} {name}"


def choose_device(name: DeviceName, precision: str, deterministic: bool = False) -> torch.device:
    """Choose the device of a run, and set its matrix precision.

    Raises:
        InputError: the run needs CUDA, or tf32 on CUDA, and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError(
            "device cuda: torch sees no CUDA device; use the CPU, or install a CUDA build of torch "
            "and check nvidia-smi",
            setting="device",
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
    """Make every run on one kind of GPU give the same bits, as runs on a CPU always do."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before the first matrix product
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cuda.enable_cudnn_sdp(False)  # its backward is not deterministic


def slow_precision(device: torch.device, precision: str) -> str:
    """A warning if the device only emulates the precision, otherwise empty."""
    if precision == "bf16" and device.type == "cpu" and not cpu_has_bf16():
        return (
            "train.precision: this CPU has no bf16 units, and products in bf16 take 36 to 63 times "
            "as long as in fp32; use fp32"
        )
    return ""


def available_memory(device: torch.device) -> int:
    """Bytes that this process may still allocate on the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    return int(min(free_on_machine(), tightest(left_in_group, CGROUP_FILES)))


def free_on_machine() -> int:
    """Bytes of main memory that are free for any process."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists() and (found := AVAILABLE.search(meminfo.read_text())):
        return int(found[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def left_in_group(group: Path, files: tuple[str, str, str]) -> float:
    """Bytes that a control group leaves; infinite without a limit.

    Pages of files count as free, because the kernel gives them up before it refuses memory.
    """
    limit_file, used_file, of_files = files
    try:
        limit = (group / limit_file).read_text().strip()
        used, stat = (group / used_file).read_text(), (group / "memory.stat").read_text()
    except FileNotFoundError:  # no memory controller here, or the root, which has no limit
        return math.inf
    if limit == "max":
        return math.inf
    pages = sum(int(found) for found in re.findall(rf"^{of_files} (\d+)$", stat, re.MULTILINE))
    return max(0, int(limit) - int(used) + pages)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or any error in its chain, says that memory ran out."""
    ahead, seen = [error], set[int]()
    while ahead:
        found = ahead.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, torch.OutOfMemoryError | MemoryError):
            return True
        if isinstance(found, RuntimeError) and OUT_OF_MEMORY.search(str(found)):
            return True
        # torch's compiler raises `from None`, which keeps the context
        ahead += [other for other in (found.__cause__, found.__context__) if other is not None]
    return False


@cache
def matrix_peak(device: torch.device, precision: str) -> float:
    """FLOP/s of one large square matrix product in a run's precision, the best of a few."""
    size = 8192 if device.type == "cuda" else 1024
    matrix = torch.randn(size, size, device=device, dtype=DTYPES[precision])
    fastest = float("inf")
    for _ in range(REPETITIONS + 1):  # the first one warms up
        started = time.perf_counter()
        product = matrix @ matrix
        float(product[0, 0])  # waits for the device
        fastest = min(fastest, time.perf_counter() - started)
        if fastest > LONG:
            break
    return 2 * size**3 / fastest
