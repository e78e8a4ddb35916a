"""The memory of a device: what is free, and how it says that none is left."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import torch

from mutransfer_cli.train.cgroups import own_groups

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
