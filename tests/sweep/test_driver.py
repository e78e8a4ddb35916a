"""The driver: its records, and how it continues when an attempt fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.records import ThroughputRecord, TrialRecord
from mutransfer_cli.sweep.choice import Rung, Settings, next_lower
from mutransfer_cli.sweep.driver import ATTEMPTS, Driver, Hear, retry_sentence
from mutransfer_cli.sweep.messages import Assignment, Content, Done, Failed, Message, Refused
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.store import Finished, RecordStore
from mutransfer_cli.sweep.time_left import Planned
from mutransfer_cli.sweep.worker import failed_record
from mutransfer_cli.train.loop import Progress
from tests.made_up import record

PROGRESS = Progress(2, 2, 0.5, 100, 1.0, slots=2, steps=5, elapsed=1.0, steps_left=5)
DIED = Failed("its process ended with exit code 3", "rung", died=True)


class Scripted:
    """A launcher whose attempts end as scripted, in order of submission."""

    at_once = 1

    def __init__(self, *endings: Callable[[Assignment], Sequence[Content]]) -> None:
        self.endings, self.given, self.log = iter(endings), list[Assignment](), list[str]()

    def begin(self, sweep: Sweep) -> None:
        self.log.append("begin")

    def has_room(self) -> bool:
        return self.idle

    @property
    def idle(self) -> bool:
        return len(self.given) == self.log.count("poll")

    def submit(self, assignment: Assignment) -> None:
        self.given.append(assignment)

    def poll(self, hear: Hear) -> None:
        self.log.append("poll")
        for content in next(self.endings)(self.given[-1]):
            hear(Message(*self.given[-1].key, content))

    def give_up(self, key: tuple[str, int]) -> None:
        self.log.append("give up")

    def close(self, hear: Hear) -> None:
        self.log.append("close")


class Seen:
    def __init__(self) -> None:
        self.plans: list[list[Planned]] = []
        self.progress: list[Progress] = []
        self.records: list[TrialRecord] = []
        self.said: list[str] = []

    def planned(self, groups: Sequence[Planned], at_once: int | None) -> None:
        self.plans.append(list(groups))

    def dropped(self, width: int, group: str) -> None:
        self.plans.append([])

    def stepped(self, width: int, group: str, progress: Progress) -> None:
        self.progress.append(progress)

    def recorded(self, records: Sequence[TrialRecord]) -> None:
        self.records += records

    def measured(self, throughput: ThroughputRecord) -> None:
        raise AssertionError("nothing is measured")

    def noted(self, sentence: str) -> None:
        self.said.append(sentence)


@pytest.fixture
def sweep(tiny: dict[str, Any], prepare: Callable[[dict[str, Any]], Sweep]) -> Sweep:
    tiny["sweep"] = {"widths": [16], "axes": {"lr": [2**-8, 2**-7]}}
    return prepare(tiny)


@pytest.fixture
def store(sweep: Sweep, tmp_path: Path) -> Iterator[RecordStore]:
    with RecordStore(tmp_path / "out", sweep.header(None)) as opened:
        yield opened


def drive(sweep: Sweep, store: RecordStore, launcher: Scripted) -> Seen:
    seen = Seen()
    settings = Settings("off", False, float("inf"))
    Driver(sweep, store, launcher, "cpu", 1, settings, seen).run(lambda: None)
    return seen


def good(assignment: Assignment) -> Finished:
    return Finished(
        [record(trial.id, width=16, lr=trial.axes["lr"]) for trial in assignment.trials]
    )


def test_what_comes_twice_is_recorded_once(sweep: Sweep, store: RecordStore) -> None:
    launcher = Scripted(lambda given: [PROGRESS, good(given), good(given), Done()])
    seen = drive(sweep, store, launcher)
    assert [r.trial for r in seen.records] == [t.id for t in sweep.trials[16]]
    assert store.trials.keys() == {t.id for t in sweep.trials[16]}
    assert seen.progress == [PROGRESS]
    assert launcher.log == ["begin", "poll"]


def test_a_finished_sweep_needs_no_worker(sweep: Sweep, store: RecordStore) -> None:
    drive(sweep, store, Scripted(lambda given: [good(given), Done()]))
    launcher = Scripted()
    assert drive(sweep, store, launcher).records == []
    assert launcher.log == []


def test_the_rest_of_a_group_goes_on_one_rung_lower(sweep: Sweep, store: RecordStore) -> None:
    first, second = sweep.trials[16]

    def half(given: Assignment) -> list[Content]:
        done = Finished([record(first.id, width=16, lr=first.axes["lr"])])
        return [Rung(False, False, 2), done, DIED]

    launcher = Scripted(half, lambda given: [good(given), Done()])
    seen = drive(sweep, store, launcher)
    names = [given.queue for given in launcher.given]
    whole, rest = Planned(names[0], 16, 2), Planned(names[1], 16, 1)
    assert seen.plans == [[whole], [], [rest]], "planned, dropped, and planned again"
    assert [a.trials for a in launcher.given] == [(first, second), (second,)]
    assert [a.attempt for a in launcher.given] == [1, 2]
    assert launcher.given[1].limit == Rung(False, False, 1)
    (said,) = seen.said
    assert said.startswith("width 16: a worker with 1 trials was lost, its process ended with exit")


def test_a_group_whose_workers_die_on_the_lowest_rung_fails(
    sweep: Sweep, store: RecordStore
) -> None:
    def lowest(given: Assignment) -> list[Content]:
        return [Rung(False, False, 1), DIED]

    launcher = Scripted(*[lowest] * ATTEMPTS)
    seen = drive(sweep, store, launcher)
    assert len(launcher.given) == ATTEMPTS
    reason = "3 workers were lost, the last because its process ended with exit code 3"
    assert {r.error for r in seen.records} == {reason}
    group = launcher.given[0].queue
    wanted = [failed_record(sweep.protocol, t, group, reason) for t in sweep.trials[16]]
    assert list(store.trials.values()) == wanted


def test_an_attempt_that_ends_without_its_records_is_made_again(
    sweep: Sweep, store: RecordStore
) -> None:
    launcher = Scripted(lambda given: [Done()], lambda given: [good(given), Done()])
    (said,) = drive(sweep, store, launcher).said
    assert "some of its records were lost; they go on in another" in said
    assert len(store.trials) == 2


def test_what_the_user_must_change_ends_the_sweep_and_its_workers(
    sweep: Sweep, store: RecordStore
) -> None:
    error = InputError("width 16: no", setting="device")
    launcher = Scripted(lambda given: [Refused(error)])
    with pytest.raises(InputError) as raised:
        drive(sweep, store, launcher)
    assert raised.value is error
    assert launcher.log[-1] == "close"


@pytest.mark.parametrize(
    ("ran", "failed", "sentence"),
    [
        (
            Rung(True, True, 8),
            Failed("RuntimeError: no (a.py:1)", "rung", died=False),
            "width 64: a worker with 9 trials failed compiled and in a CUDA graph, "
            "RuntimeError: no (a.py:1); they go on in a CUDA graph, 8 side by side",
        ),
        (
            Rung(False, False, 8),
            Failed("its process ended with exit code 3", "rung", died=True),
            "width 64: a worker with 9 trials was lost, its process ended with exit code 3; they "
            "go on launched step by step, 4 side by side",
        ),
        (
            Rung(False, True, 8),
            Failed("CUDA out of memory", "memory", died=False),
            "width 64: out of memory with 8 trials side by side; going on with 4",
        ),
        (
            Rung(False, True, 8),
            Failed("its node is gone", "elsewhere", died=True),
            "width 64: a worker with 9 trials was lost, its node is gone; they go on in another",
        ),
    ],
)
def test_one_line_says_what_failed_and_how_it_goes_on(
    ran: Rung, failed: Failed, sentence: str
) -> None:
    assert retry_sentence(64, 9, ran, next_lower(ran, failed.fault), failed) == sentence
