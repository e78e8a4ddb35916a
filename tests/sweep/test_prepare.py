from __future__ import annotations

import pytest

from mutransfer_cli.spec.sweep import SweepGrid
from mutransfer_cli.sweep.prepare import Trial, expand, pending
from mutransfer_cli.train.group_size import slot_count
from tests.made_up import record


def trials(count: int) -> list[Trial]:
    return [Trial(f"t{n}", 16, 0, {"lr": 2.0 ** (n - 20)}) for n in range(count)]


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
    ("trials_", "most", "slots"),
    [(7, 8, 7), (8, 8, 8), (9, 8, 5), (20, 8, 7), (3, 1, 1), (1, 8, 1)],
)
def test_slots_are_few_and_seldom_idle(trials_: int, most: int, slots: int) -> None:
    assert slot_count(trials_, most) == slots


def test_what_is_finished_is_not_pending_and_what_failed_is() -> None:
    records = {
        "t0": record("t0"),
        "t1": record("t1", status="diverged", diverged_at=3),
        "t2": record("t2", status="failed", error="no memory"),
    }
    assert [trial.id for trial in pending(trials(4), records)] == ["t2", "t3"]
    assert pending(trials(2), records) == []
