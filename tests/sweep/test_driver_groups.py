"""Sweeps are cut into groups that train fast together and are shared among workers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli.spec.sources import load_spec
from mutransfer_cli.sweep.driver import cut
from mutransfer_cli.sweep.messages import Group
from mutransfer_cli.sweep.prepare import Sweep


@pytest.fixture(scope="module")
def sweep() -> Sweep:
    """The quickstart: eight widths of twenty trials."""
    spec, path = load_spec("quickstart")
    return Sweep.prepare(spec, path.parent)


def sizes(groups: list[Group]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for group in groups:
        found.setdefault(group.width, []).append(len(group.trials))
    return found


def work(sweep: Sweep, group: Group) -> float:
    return sweep.cost(group.width).flops * len(group.trials)


def test_one_worker_trains_each_width_as_a_whole(sweep: Sweep) -> None:
    assert sizes(cut(sweep, "cpu", 1)) == {width: [20] for width in sweep.trials}


@pytest.mark.parametrize("workers", [2, 3, 8, 200])
def test_no_worker_gets_more_than_half_its_share_at_once(sweep: Sweep, workers: int) -> None:
    groups = cut(sweep, "cpu", workers)
    assert sorted(t.id for group in groups for t in group.trials) == sorted(
        trial.id for trials in sweep.trials.values() for trial in trials
    )
    limit = sum(work(sweep, group) for group in groups) / (2 * workers)
    for group in groups:
        trial = sweep.cost(group.width).flops  # one trial cannot be split
        assert work(sweep, group) < limit + trial


def test_narrow_widths_stay_together(sweep: Sweep) -> None:
    found = sizes(cut(sweep, "cpu", 2))
    assert found[16] == found[48] == [20]
    assert len(found[192]) == 2


def test_where_workers_are_not_counted_a_group_keeps_one_busy(
    tiny: dict[str, Any], prepare: Callable[[dict[str, Any]], Sweep], tmp_path: Path
) -> None:
    tiny["data"] = {"source": "stdlib"}
    tiny["train"] |= {"batch": 64, "context": 32, "steps": 5}
    tiny["sweep"] = {"widths": [16], "axes": {"lr": [2.0**-k for k in range(4, 14)]}}
    groups = cut(prepare(tiny), "cpu", None)
    assert sizes(groups) == {16: [4, 4, 2]}, "8,192 tokens a step"
