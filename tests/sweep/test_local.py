"""A sweep trained in this process, without worker processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli.spec.records import ThroughputRecord, TrialRecord
from mutransfer_cli.sweep.choice import Settings
from mutransfer_cli.sweep.local import run, started_workers, through
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.store import RecordStore
from mutransfer_cli.sweep.time_left import Planned
from mutransfer_cli.sweep.worker import Stopped
from mutransfer_cli.train.loop import Progress
from tests.conftest import CPU

SETTINGS = Settings("off", False, float("inf"))


class Seen:
    def __init__(self) -> None:
        self.records: list[TrialRecord] = []
        self.speeds: list[ThroughputRecord] = []

    def planned(self, groups: Sequence[Planned], at_once: int | None) -> None:
        pass

    def dropped(self, width: int, group: str) -> None:
        pass

    def stepped(self, width: int, group: str, progress: Progress) -> None:
        assert width == 16

    def recorded(self, records: Sequence[TrialRecord]) -> None:
        self.records += records

    def measured(self, throughput: ThroughputRecord) -> None:
        self.speeds.append(throughput)

    def noted(self, sentence: str) -> None:
        raise AssertionError(sentence)


@pytest.fixture
def sweep(tiny: dict[str, Any], prepare: Callable[[dict[str, Any]], Sweep]) -> Sweep:
    tiny["sweep"] = {"widths": [16], "axes": {"lr": [2**-8, 2**-7]}}
    return prepare(tiny)


def train(sweep: Sweep, folder: Path, seen: Seen, check: Callable[[], None]) -> None:
    with (
        started_workers(CPU, 1, pytest.fail) as workers,
        RecordStore(folder, sweep.header(CPU)) as store,
    ):
        assert workers.processes is None
        run(sweep, store, workers, SETTINGS, seen, check)


def test_the_observer_sees_what_is_on_the_disk(sweep: Sweep, tmp_path: Path) -> None:
    seen, checks = Seen(), list[None]()
    train(sweep, tmp_path, seen, lambda: checks.append(None))
    assert sorted(record.trial for record in seen.records) == sorted(t.id for t in sweep.trials[16])
    lines = [*(r.line() for r in seen.records), seen.speeds[0].line()]
    _, *written = (tmp_path / "trials.jsonl").read_bytes().splitlines(True)
    assert written == lines
    assert len(checks) > sweep.protocol.train.steps, "at every step"


def test_what_a_check_raises_comes_out_as_it_is(sweep: Sweep, tmp_path: Path) -> None:
    steps = iter(range(100))

    def check() -> None:
        if next(steps) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(sweep, tmp_path, Seen(), check)


def test_the_drivers_errors_are_not_taken_for_the_trainings() -> None:
    def full(what: str) -> None:
        raise OSError(what)

    with pytest.raises(Stopped) as stopped:
        through(full)("the disk is full")
    (error,) = stopped.value.args
    assert isinstance(error, OSError)
