"""The time left of a sweep whose steps take the times that were measured on an idle machine."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

import pytest

from mutransfer_cli.sweep.time_left import Planned, StepTimes, Timed, TimeLeft
from mutransfer_cli.train.loop import Progress
from tests.made_up import record

STEPS, EVAL_BATCHES, TENSORS = 150, 8, 14
# a quickstart of depth 2 on one idle core: work and seconds of a step of a trial, by width
WORK = {16: 4.99e7, 32: 1.054e8, 48: 1.78e8, 64: 2.68e8, 96: 5.0e8, 128: 8.01e8}
SECONDS = {16: 0.0020, 32: 0.0033, 48: 0.0043, 64: 0.0060, 96: 0.0099, 128: 0.0163}


def left() -> TimeLeft:
    return TimeLeft(WORK, TENSORS, STEPS, EVAL_BATCHES, dict.fromkeys(WORK, 14))


def progress(slots: int, steps: int, step_seconds: float) -> Progress:
    done = slots * steps / STEPS
    elapsed = steps * step_seconds
    return Progress(slots, slots, done, 0, elapsed, slots, steps, elapsed, STEPS - steps)


class Simulated:
    """A sweep whose steps take those times, in a clock of its own."""

    def __init__(self, workers: int, groups: list[Planned]) -> None:
        self.workers, self.groups = workers, groups

    def events(self) -> Iterator[tuple[float, str, Planned, Progress | None]]:
        """Looks and ends of groups, by time."""
        free = [(0.0, worker) for worker in range(self.workers)]
        events: list[Any] = []
        for group in self.groups:
            now, worker = heapq.heappop(free)
            each = SECONDS[group.width] * group.trials
            now += 0.3 + 4 * each
            for look in range(1, 21):
                steps = STEPS * look // 20
                seen = progress(group.trials, steps, each)
                events.append((now + steps * each, "look", group, seen))
            now += (STEPS + 0.33 * EVAL_BATCHES) * each
            events.append((now, "end", group, None))
            heapq.heappush(free, (now, worker))
        return iter(sorted(events, key=lambda event: event[0]))


def groups(workers: int) -> list[Planned]:
    halves = {128: 2, 96: 2} if workers > 1 else {}
    return [
        Planned(f"{width}-{part}", width, 14 // halves.get(width, 1))
        for width in sorted(WORK, reverse=True)
        for part in range(halves.get(width, 1))
    ]


def ratios(estimate: TimeLeft, sweep: Simulated, begin: int = 0) -> dict[float, float]:
    """Stated over true time left, by share of the time, up to the last two seconds."""
    events = list(sweep.events())
    end, found = events[-1][0], {}
    estimate.planned(sweep.groups, sweep.workers)
    for now, kind, group, seen in events:
        if kind == "look":
            assert seen is not None
            estimate.stepped(group.name, seen, now)
        else:
            estimate.recorded(group.name, group.width, group.trials)
        stated = estimate.seconds(now)
        if stated is not None and end - now > 2:
            found[now / end] = stated / (end - now)
    assert estimate.seconds(end) == 0
    assert estimate.share() == 1
    return found


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_fresh_sweep_is_told_well_from_a_fifth_of_it_on(workers: int) -> None:
    found = ratios(left(), Simulated(workers, groups(workers)))
    late = [ratio for share, ratio in found.items() if share > 0.2]
    assert len(late) > 50
    assert min(late) > 0.8
    assert max(late) < 1.25


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("trained", [{128: 7}, {128: 14, 96: 7}, {128: 14, 96: 14, 64: 14}])
def test_a_resumed_sweep_is_told_well_at_once(workers: int, trained: dict[int, int]) -> None:
    estimate = left()
    estimate.earlier(
        [
            record(f"{width}-{k}", width=width, group_size=7, steps=STEPS, seconds=each * STEPS)
            for width, count in trained.items()
            for each in [SECONDS[width]]
            for k in range(count)
        ]
    )
    rest = [
        Planned(f"{width}", width, 14 - trained.get(width, 0))
        for width in sorted(WORK, reverse=True)
        if trained.get(width, 0) < 14
    ]
    estimate.planned(rest, workers)
    events = list(Simulated(workers, rest).events())
    at_once = estimate.seconds(0.0)
    assert at_once is not None
    assert at_once / events[-1][0] == pytest.approx(1.0, abs=0.3)
    found = ratios(estimate, Simulated(workers, rest)).values()
    assert min(found) > 0.75
    assert max(found) < 1.3


def test_an_earlier_run_on_another_machine_lends_its_widths_only() -> None:
    """Once a width is timed here, those timed there are taken at the speed found here."""
    there = {(width, 14): Timed(14 * SECONDS[width], 1.0) for width in WORK}
    here = {(64, 14): Timed(5 * 14 * SECONDS[64], 1.0)}
    both = StepTimes.fit(WORK, 5e8, [there, here])
    assert both.seconds(64, 14) == pytest.approx(5 * 14 * SECONDS[64])
    for width in WORK:
        assert both.seconds(width, 14) == pytest.approx(5 * 14 * SECONDS[width], rel=0.15)


def test_timed_widths_price_the_others() -> None:
    timed = {(width, 14): Timed(14 * SECONDS[width], 1.0) for width in (128, 64, 32)}
    one = StepTimes.fit(WORK, 5e8, [{(128, 14): timed[128, 14]}])
    three = StepTimes.fit(WORK, 5e8, [timed])
    for width, seconds in SECONDS.items():
        assert one.seconds(width, 14) == pytest.approx(14 * seconds, rel=0.3)
        assert three.seconds(width, 14) == pytest.approx(14 * seconds, rel=0.25)


def test_a_wrong_expectation_is_corrected_by_timed_widths() -> None:
    timed = {(width, 14): Timed(14 * SECONDS[width], 1.0) for width in (128, 64, 32, 16)}
    found = StepTimes.fit(WORK, 5e9, [timed])
    assert found.launch < 2.5e9
    for width, seconds in SECONDS.items():
        assert found.seconds(width, 14) == pytest.approx(14 * seconds, rel=0.25)


def test_begun_trials_take_the_rest_of_their_steps_only() -> None:
    whole, begun = left(), left()
    for estimate, kept in ((whole, ()), (begun, (75,) * 14)):
        estimate.earlier([record("x", width=64, group_size=14, steps=STEPS, seconds=0.9)])
        estimate.planned([Planned("g", 64, 14, kept)], 1)
    fresh, resumed = whole.seconds(0.0), begun.seconds(0.0)
    assert fresh is not None
    assert resumed is not None
    assert fresh - resumed == pytest.approx(75 * 14 * 0.9 / STEPS, rel=0.01)
    assert (whole.share(), begun.share()) == pytest.approx((1 / 15, 8 / 15))


def test_nothing_is_stated_before_steps_are_timed() -> None:
    estimate = left()
    estimate.planned([Planned("g", 64, 14)], 1)
    assert estimate.seconds(0.0) is None
    estimate.stepped("g", progress(14, 1, 5.0), 5.0)
    assert estimate.seconds(5.0) is None, "the first step is slow"
    estimate.stepped("g", progress(14, 11, 0.6), 6.6)
    assert estimate.seconds(6.6) is not None


def test_a_dropped_group_is_waited_for_again() -> None:
    estimate = left()
    estimate.planned(first := [Planned("a", 64, 14), Planned("b", 64, 14)], 2)
    for steps in (1, 51):
        for group in first:
            estimate.stepped(group.name, progress(14, steps, 0.1), steps / 10)
    before = estimate.seconds(5.1)
    estimate.dropped("a")
    estimate.planned([Planned("a again", 64, 14)], 2)
    after = estimate.seconds(5.1)
    assert before == pytest.approx((99 + 3.2) * 0.1, rel=0.05)
    assert after == pytest.approx((150 + 6 + 3.2) * 0.1, rel=0.05)
    assert estimate.recorded("b", 64, 13) is False
    assert estimate.recorded("b", 64, 1) is True
