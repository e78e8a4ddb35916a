"""The cores that a process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from mutransfer_cli.train import cgroups


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Control groups of a made-up machine of eight cores, at first without quotas."""
    monkeypatch.setattr(cgroups, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(cgroups, "CGROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    return tmp_path


def test_a_process_uses_the_cores_that_it_is_bound_to(groups: Path) -> None:
    (groups / "own").write_text("0::/\n")
    assert cgroups.tightest(cgroups.granted_cores, cgroups.QUOTA_FILES) == math.inf
    assert cgroups.usable_cores() == 8


@pytest.mark.parametrize(
    ("quota", "cores"), [("250000 100000", 2), ("max 100000", 8), ("50000 100000", 1)]
)
def test_a_quota_of_a_group_above_binds_too(groups: Path, quota: str, cores: int) -> None:
    (groups / "own").write_text("0::/job/step\n")
    (groups / "job" / "step").mkdir(parents=True)
    (groups / "job" / "step" / "cpu.max").write_text("max 100000\n")
    (groups / "job" / "cpu.max").write_text(f"{quota}\n")
    assert cgroups.usable_cores() == cores


def test_so_does_one_of_version_1(groups: Path) -> None:
    (groups / "own").write_text("3:memory:/\n4:cpu,cpuacct:/docker\n")
    group = groups / "cpu,cpuacct"
    group.mkdir()
    (group / "cpu.cfs_quota_us").write_text("300000\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    assert cgroups.usable_cores() == 3
