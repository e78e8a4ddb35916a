"""Limits that the control groups of this process set; importing this needs no torch."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

OWN_CGROUPS, CGROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
# files of a group with its quota of CPU time and the period of it, by controllers
QUOTA_FILES = {
    "": ("cpu.max",),
    "cpu,cpuacct": ("cpu.cfs_quota_us", "cpu.cfs_period_us"),
    "cpu": ("cpu.cfs_quota_us", "cpu.cfs_period_us"),
}


def own_groups(controllers: str) -> Iterator[Path]:
    """Folders of the control groups that bind this process: its own and those above it.

    In a container the path that a process is told may be one outside: the group at the top is then
    its own.

    Args:
        controllers: as /proc/self/cgroup names them; none in version 2.
    """
    for line in OWN_CGROUPS.read_text().splitlines() if OWN_CGROUPS.exists() else ():
        _, found, path = line.split(":", 2)
        if found == controllers:
            top = CGROUPS / controllers
            own = top / path.lstrip("/")
            yield from (group for group in (own, *own.parents) if group.is_relative_to(top))


def usable_cores() -> int:
    """CPU cores that this process may use: those it is bound to, within its groups' quota."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this platform
        cores = os.cpu_count() or 1
    return max(1, int(min(cores, granted_cores())))


def granted_cores() -> float:
    """Cores' worth of time that the groups grant; infinite where none has a quota."""
    quotas = (
        quota_of(group, files)
        for controllers, files in QUOTA_FILES.items()
        for group in own_groups(controllers)
    )
    return min(quotas, default=math.inf)


def quota_of(group: Path, files: Sequence[str]) -> float:
    try:
        quota, period = " ".join((group / name).read_text() for name in files).split()
    except FileNotFoundError:  # no such controller here, or the root, which has no quota
        return math.inf
    return math.inf if quota in ("max", "-1") else int(quota) / int(period)
