"""The display of a running sweep, and the records that are piped."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mutransfer_cli.cli.watch import Echo, SweepDisplay, watch
from mutransfer_cli.errors import SweepIncomplete, SweepInterrupted
from mutransfer_cli.spec.records import ThroughputRecord, TrialRecord
from mutransfer_cli.sweep.driver import Observer
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.store import Finished, RecordStore
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


def rows(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines()]


def test_a_display_counts_and_measures(sweep: Sweep, capsys: pytest.CaptureFixture[str]) -> None:
    first = records(sweep)[0]
    diverged = records(sweep, status="diverged", diverged_at=3)[1]
    with SweepDisplay(sweep, [first], Echo(False)) as display:
        display.stepped(16, "g", Progress(2, 1, 1.0, tokens=640, seconds=2.0))
        display.recorded([diverged])
        display.measured(SPEED)
        display.noted("out of [memory]")
    line, noted, head, at_16, at_24, caption = capsys.readouterr().err.splitlines()
    assert line.startswith("width 16: 2 of 3 trials, 1 diverged, best lr 2^-8 (3.1000), 320 tokens")
    assert noted == "out of [memory]"
    assert head.split()[:6] == ["width", "trials", "done", "alive", "diverged", "failed"]
    cells = at_16.split()
    assert cells[:6] == ["16", "3", "2", "1", "1", "0"]
    # 320 tokens/s are one trial per second
    assert cells[8:] == ["320", "3,600", f"{sweep.cost(16).flops:.1e}", "25%"]
    assert at_24.split() == ["24", "3", "0", "0", "0", "0", "-", "-", "-", "-", "-"]
    assert caption.strip().endswith(" left")


def piped(monkeypatch: pytest.MonkeyPatch, stdout: Any) -> None:
    class Stream:
        buffer = stdout

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr(sys, "stdout", Stream())


def test_records_old_and_new_are_piped(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
        watch(sweep, store, Echo(), run)
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


def test_failed_trials_are_an_error_at_the_end(sweep: Sweep, tmp_path: Path) -> None:
    def run(observer: Observer, check: Callable[[], None]) -> None:
        bad = records(sweep, status="failed", error="no memory")
        store.append(Finished([*bad, *(record(t.id, width=24) for t in sweep.trials[24])]))

    with RecordStore(tmp_path, sweep.header(CPU)) as store:
        sentence = "3 trials failed, the first with: no memory; run"
        with pytest.raises(SweepIncomplete, match=sentence):
            watch(sweep, store, Echo(False), run)


def test_a_stopped_sweep_says_how_to_go_on(sweep: Sweep, tmp_path: Path) -> None:
    def run(observer: Observer, check: Callable[[], None]) -> None:
        store.append(Finished(records(sweep)))
        check()

    def stop() -> None:
        raise KeyboardInterrupt

    interrupted = pytest.raises(SweepInterrupted, match="interrupted; 3 records are in")
    with RecordStore(tmp_path, sweep.header(CPU)) as store, interrupted:
        watch(sweep, store, Echo(False), run, stop)
