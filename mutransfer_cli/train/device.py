"""The device of a run.

MERGED:
The memory of a device: what is free, and how it says that none is left.
What the device's matrix units give at best: the measure of every training speed."""

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
from mutransfer_cli.train.cgroups import own_groups

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


# files of a group with its limit, what it uses, and of that pages of files, by controllers
CGROUP_FILES = {
    "": ("memory.max", "memory.current", r"(?:in)?active_file"),
    "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", r"total_(?:in)?active_file"),
}
# torch's allocators, the CUDA runtime and driver, Triton; libraries of CUDA and of the CPU
OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|_STATUS_(\w+_)?ALLOC(ATION)?_FAILED", re.IGNORECASE
)


def available_memory(device: torch.device) -> int:
    """Bytes that a process may still take on the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(device)
        return int(free)
    return int(min(free_on_machine(), left_by_cgroups()))


def free_on_machine() -> int:
    """Bytes, whoever may take them."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def left_by_cgroups() -> float:
    """Bytes that the control groups of this process leave it; infinite where none has a limit."""
    lefts = (
        left_in_group(group, *files)
        for controllers, files in CGROUP_FILES.items()
        for group in own_groups(controllers)
    )
    return min(lefts, default=math.inf)


def left_in_group(group: Path, limit_file: str, used_file: str, of_files: str) -> float:
    """Bytes; the kernel gives up pages of files before it refuses memory, so they are left."""
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
    """Whether an error says that memory ran out, or one does that it was raised from or beside."""
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
        # torch's compiler raises `from None`, and the context stays
        ahead += [other for other in (found.__cause__, found.__context__) if other is not None]
    return False


DTYPES = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp64": torch.float64,
}
REPETITIONS = 3
LONG = 0.5  # seconds: a product that takes so long needs neither warm-up nor repetition


@cache
def matrix_peak(device: torch.device, precision: str) -> float:
    """FLOP/s of one large square matrix product in a run's precision, the best of a few."""
    size = 8192 if device.type == "cuda" else 1024
    matrix = torch.randn(size, size, device=device, dtype=DTYPES[precision])
    fastest = float("inf")
    for _ in range(REPETITIONS + 1):  # the first is to warm up
        started = time.perf_counter()
        product = matrix @ matrix
        float(product[0, 0])  # waits for the device
        fastest = min(fastest, time.perf_counter() - started)
        if fastest > LONG:
            break
    return 2 * size**3 / fastest
