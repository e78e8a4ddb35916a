"""The display of a running sweep, and the records that are piped."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from mutransfer_cli.cli.progress import Draw, Screen
from mutransfer_cli.cli.watch import Echo, SweepDisplay, watch
from mutransfer_cli.errors import SweepIncomplete, SweepInterrupted
from mutransfer_cli.spec.records import ThroughputRecord, TrialRecord
from mutransfer_cli.sweep.driver import Observer
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.store import Finished, RecordStore
from mutransfer_cli.sweep.time_left import Planned
from mutransfer_cli.train.loop import Progress
from tests.conftest import CPU
from tests.made_up import record

SPEED = ThroughputRecord(
    width=16,
    group="g",
    group_size=2,
    device="cpu",
    compiled=False,
    captured=False,
    tokens=640,
    seconds=2,
    start_seconds=1,
    tokens_per_second=320,
    trials_per_hour=3600,
    flops_per_second=1e6,
    matrix_peak=4e6,
    of_peak=0.25,
)


@pytest.fixture
def sweep(tiny: dict[str, Any], prepare: Callable[[dict[str, Any]], Sweep]) -> Sweep:
    """Two widths of three trials; a trial is 10 steps of 2 x 16 tokens."""
    tiny["sweep"] = {"widths": [16, 24], "axes": {"lr": [2**-8, 2**-7, 2**-6]}}
    return prepare(tiny)


def records(sweep: Sweep, **changes: Any) -> list[TrialRecord]:
    return [record(t.id, width=16, lr=t.axes["lr"], **changes) for t in sweep.trials[16]]


PROGRESS = Progress(2, 1, 1.0, 640, 2.0, slots=2, steps=10, elapsed=2.0, steps_left=10)


@pytest.fixture
def screen() -> Iterator[Screen]:
    with Screen() as opened:
        yield opened


def test_a_log_has_one_line_for_each_finished_group_and_one_table(
    sweep: Sweep, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = records(sweep)
    diverged = second.model_copy(
        update={"status": "diverged", "eval_loss": None, "train_loss": None}
    )
    display = SweepDisplay(sweep, [first], Echo(False), Screen(), "cpu")
    display.planned([Planned("wide", 24, 3), Planned("g", 16, 2)], at_once=1)
    display.stepped(16, "g", PROGRESS)
    display.recorded([in_group(diverged, "g")])
    assert capsys.readouterr().err == "", "half a group"
    display.recorded([in_group(third, "g")])
    display.measured(SPEED)
    display.noted("out of [memory]")
    display.end()
    line, noted, head, at_16, at_24 = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "width 16: 3 of 3 trials done, 1 diverged, best lr 0.00391, loss 3.100; "
    )
    assert re.search(r"; 3 of 6 in all; about \d+ s left$", line)
    assert noted == "out of [memory]"
    names = ["width", "trials", "done", "alive", "diverged", "best", "lr", "loss", "tokens/s"]
    assert head.split() == [*names, "trials/h", "FLOP/s", "of", "peak"]
    # 320 tokens/s are one trial per second
    speed = ["320", "3,600", f"{sweep.cost(16).flops:.1e}", "25%"]
    assert at_16.split() == ["16", "3", "3", "2", "1", "0.00391", "3.100", *speed]
    assert at_24.split() == ["24", "3", "0", "0", "0", "-", "-", "-", "-", "-", "-"]


def in_group(record: TrialRecord, group: str) -> TrialRecord:
    return record.model_copy(update={"group": group})


class Drawn:
    """A screen that keeps what it is asked to draw."""

    live = True
    lines: Sequence[str] = ()

    def draws(self, draw: Draw) -> None:
        self.lines = draw(100, 30)


def test_the_table_grows_as_widths_begin(sweep: Sweep) -> None:
    drawn = Drawn()
    first = records(sweep)[0]
    display = SweepDisplay(sweep, [first], Echo(False), cast(Screen, drawn), "cpu")
    display.planned([Planned("wide", 24, 3), Planned("g", 16, 2)], at_once=1)
    line, _, at_16 = drawn.lines
    assert "1 alive, 0 diverged  best lr 0.00391" in line
    assert at_16.split()[:4] == ["16", "3", "1", "1"]
    display.dropped(24, "wide")
    display.planned([Planned("again", 24, 3)], at_once=1)
    display.stepped(24, "again", PROGRESS)
    display.recorded([in_group(record("x", width=24), "again")])
    line, _, *table = drawn.lines
    assert [row.split()[:3] for row in table] == [["16", "3", "1"], ["24", "3", "1"]]
    assert re.search(r" about \d+ s left  2 alive, 0 diverged ", line)


def test_a_low_terminal_shows_the_widths_that_moved_last(sweep: Sweep) -> None:
    drawn = Drawn()
    display = SweepDisplay(sweep, records(sweep), Echo(False), cast(Screen, drawn), "cpu")
    display.planned([Planned("wide", 24, 3)], at_once=1)
    display.recorded([in_group(record("x", width=24), "wide")])
    drawn.draws = lambda draw: setattr(drawn, "lines", draw(100, 3))  # type: ignore[method-assign]
    display.recorded([in_group(record("y", width=24), "wide")])
    assert [row.split()[0] for row in drawn.lines[2:]] == ["24"]


def piped(monkeypatch: pytest.MonkeyPatch, stdout: Any) -> None:
    class Stream:
        buffer = stdout

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr(sys, "stdout", Stream())


def test_records_old_and_new_are_piped(
    sweep: Sweep, screen: Screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.BytesIO()
    piped(monkeypatch, out)
    every = [*records(sweep), *(record(t.id, width=24) for t in sweep.trials[24])]

    def run(observer: Observer, check: Callable[[], None]) -> None:
        store.append(Finished(every[1:]))
        observer.recorded(every[1:4])
        observer.recorded(every[4:])
        store.append_throughput(SPEED)
        observer.measured(SPEED)

    with RecordStore(tmp_path, sweep.header(CPU)) as store:
        store.append(Finished(every[:1]))
        watch(sweep, store, Echo(), screen, run, "cpu")
    assert out.getvalue() == (tmp_path / "trials.jsonl").read_bytes()


def test_a_reader_that_leaves_is_not_written_to_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Left:
        writes = 0

        def write(self, data: bytes) -> None:
            self.writes += 1
            raise BrokenPipeError

    left = Left()
    piped(monkeypatch, left)
    echo = Echo()
    echo.write(b"a")
    echo.write(b"b")
    assert left.writes == 1
    assert "the reader of stdout has left" in capsys.readouterr().err


def test_failed_trials_are_an_error_at_the_end(
    sweep: Sweep, screen: Screen, tmp_path: Path
) -> None:
    def run(observer: Observer, check: Callable[[], None]) -> None:
        bad = records(sweep, status="failed", error="no memory")
        store.append(Finished([*bad, *(record(t.id, width=24) for t in sweep.trials[24])]))

    with RecordStore(tmp_path, sweep.header(CPU)) as store:
        sentence = "3 trials failed, the first with: no memory; run"
        with pytest.raises(SweepIncomplete, match=sentence):
            watch(sweep, store, Echo(False), screen, run, "cpu")


def test_a_stopped_sweep_says_how_to_go_on(sweep: Sweep, screen: Screen, tmp_path: Path) -> None:
    def run(observer: Observer, check: Callable[[], None]) -> None:
        store.append(Finished(records(sweep)))
        check()

    def stop() -> None:
        raise KeyboardInterrupt

    interrupted = pytest.raises(
        SweepInterrupted, match=f"^Stopped: 3 trials saved in {tmp_path}. Run "
    )
    with RecordStore(tmp_path, sweep.header(CPU)) as store, interrupted:
        watch(sweep, store, Echo(False), screen, run, "cpu", stop)
