from __future__ import annotations

from collections.abc import Sequence

import pytest

from mutransfer_cli.files.records import TrialRecord
from mutransfer_cli.files.spec import SweepGrid
from mutransfer_cli.sweep.trials import Group, Trial, expand, pending_groups
from tests.files.test_records import record


def trials(count: int) -> list[Trial]:
    return [Trial(f"t{n}", 16, 0, {"lr": 2.0 ** (n - 20)}) for n in range(count)]


def finished(group: Group, count: int | None = None) -> dict[str, TrialRecord]:
    """The records of a group, or only the first `count` of them."""
    return {
        trial.id: record(trial.id, group=group.id, group_size=len(group.trials))
        for trial in group.trials[:count]
    }


def ids(groups: Sequence[Group]) -> list[list[str]]:
    return [[trial.id for trial in group.trials] for group in groups]


def test_the_grid_is_every_width_with_every_rate_and_seed() -> None:
    grid = SweepGrid(widths=(32, 16), axes={"lr": (0.2, 0.1)}, seeds=(1, 0))
    found = expand(grid, "protocol")
    assert list(found) == [16, 32]
    assert [(t.seed, t.axes["lr"]) for t in found[16]] == [(0, 0.1), (0, 0.2), (1, 0.1), (1, 0.2)]
    assert len({t.id for at_width in found.values() for t in at_width}) == 8


def test_further_axes_multiply_the_grid_and_keep_the_trials_there_were() -> None:
    rates = {"lr": (0.1, 0.2)}
    plain = expand(SweepGrid(widths=(16,), axes=rates, seeds=(0,)), "protocol")[16]
    axes = {**rates, "lr_mult.hidden": (2.0, 1.0)}
    wider = expand(SweepGrid(widths=(16,), axes=axes, seeds=(0,)), "protocol")[16]
    assert [tuple(t.axes.values()) for t in wider] == [(1, 0.1), (1, 0.2), (2, 0.1), (2, 0.2)]
    assert [t.id for t in wider[:2]] == [t.id for t in plain]
    assert len({t.id for t in wider}) == 4


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [(7, 8, [7]), (8, 8, [8]), (9, 8, [5, 4]), (20, 8, [7, 7, 6]), (3, 1, [1, 1, 1]), (0, 8, [])],
)
def test_groups_are_few_and_even(count: int, size: int, sizes: list[int]) -> None:
    groups = pending_groups(trials(count), {}, size)
    assert [len(group.trials) for group in groups] == sizes
    assert [t for group in groups for t in group.trials] == trials(count)


@pytest.mark.parametrize("count", range(1, 30))
@pytest.mark.parametrize("size", [1, 3, 8])
def test_finishing_the_first_group_leaves_the_others_as_they_were(count: int, size: int) -> None:
    first, *rest = pending_groups(trials(count), {}, size)
    assert pending_groups(trials(count), finished(first), size) == rest


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_a_half_recorded_group_keeps_its_shape_when_the_group_size_changes(size: int) -> None:
    (group,) = pending_groups(trials(6), {}, 8)
    again, *new = pending_groups(trials(9), finished(group, 4), size)
    assert again.trials == group.trials
    assert again.missing == {"t4", "t5"}
    assert [trial.id for g in new for trial in g.trials] == ["t6", "t7", "t8"]


@pytest.mark.parametrize("kept", [1, 4, 6])
def test_a_half_recorded_group_reruns_in_its_shape_for_what_is_missing(kept: int) -> None:
    first, second, third = pending_groups(trials(20), {}, 8)
    recorded = finished(first) | finished(second, kept)
    again, last = pending_groups(trials(20), recorded, 8)
    assert (again.trials, again.id) == (second.trials, second.id)
    assert again.missing == {trial.id for trial in second.trials[kept:]}
    assert last == third


def test_a_half_recorded_group_that_cannot_be_formed_again_runs_only_the_rest() -> None:
    (group,) = pending_groups(trials(6), {}, 8)
    between = [*trials(3), Trial("new", 16, 0, {"lr": 0.1}), *trials(6)[3:]]
    groups = pending_groups(between, finished(group, 4), size=8)
    assert ids(groups) == [["new", "t4", "t5"]]


def test_a_failed_trial_runs_again() -> None:
    failed = {"t0": record("t0", status="failed", error="no memory")}
    assert ids(pending_groups(trials(2), failed, 8)) == [["t0", "t1"]]


def test_nothing_pending_is_no_group() -> None:
    (group,) = pending_groups(trials(6), {}, 8)
    assert pending_groups(trials(6), finished(group), 8) == []
