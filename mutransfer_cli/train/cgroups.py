"""Limits that the control groups of this process set; importing this needs no torch."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

OWN_CGROUPS, CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
# by controllers, a control group's files of CPU time: its quota and the period of the quota
QUOTA_FILES = {
    "": ("cpu.max",),
    "cpu,cpuacct": ("cpu.cfs_quota_us", "cpu.cfs_period_us"),
    "cpu": ("cpu.cfs_quota_us", "cpu.cfs_period_us"),
}
Files = TypeVar("Files")


def own_groups(controllers: str) -> Iterator[Path]:
    """Folders of the control groups that bind this process: its own and those above it.

    Inside a container the path may be the host's; then only the top group exists.

    Args:
        controllers: as /proc/self/cgroup names them; empty in version 2.
    """
    for line in OWN_CGROUPS.read_text().splitlines() if OWN_CGROUPS.exists() else ():
        _, found, path = line.split(":", 2)
        if found == controllers:
            top = CGROUPS / controllers
            own = top / path.lstrip("/")
            yield from (group for group in (own, *own.parents) if group.is_relative_to(top))


def tightest(limit: Callable[[Path, Files], float], files: Mapping[str, Files]) -> float:
    """The smallest `limit(group, files)` over this process's groups; infinite if none has one.

    Args:
        files: names of the files to read, by controllers.
    """
    limits = (limit(group, files[names]) for names in files for group in own_groups(names))
    return min(limits, default=math.inf)


def usable_cores() -> int:
    """CPU cores that this process may use: those it is bound to, within its groups' quota."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this platform
        cores = os.cpu_count() or 1
    return max(1, int(min(cores, tightest(granted_cores, QUOTA_FILES))))


def granted_cores(group: Path, files: tuple[str, ...]) -> float:
    """Cores' worth of CPU time that a group grants; infinite without a quota."""
    try:
        quota, period = " ".join((group / name).read_text() for name in files).split()
    except FileNotFoundError:  # no CPU controller here, or the root, which has no quota
        return math.inf
    return math.inf if quota in ("max", "-1") else int(quota) / int(period)
