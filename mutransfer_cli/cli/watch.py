"""A sweep in training, as its user sees it: the display, records copied to stdout, the outcome.

On a terminal the display is live; otherwise lines report finished trials, and a table follows.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.live import Live
from rich.table import Table

from mutransfer_cli.cli.console import console, note, right_aligned
from mutransfer_cli.errors import SweepIncomplete, SweepInterrupted
from mutransfer_cli.sweep.choice import Settings
from mutransfer_cli.sweep.driver import Observer
from mutransfer_cli.sweep.local import Workers, run
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.stop import Interrupt
from mutransfer_cli.sweep.store import RecordStore
from mutransfer_cli.sweep.underflow import underflow_warnings
from mutransfer_cli.train.loop import Check, Progress
from mutransfer_cli.words import duration, power

if TYPE_CHECKING:
    from mutransfer_cli.spec.records import ThroughputRecord, TrialRecord

BLOCK = 1 << 20
COLUMNS = (
    "width",
    "trials",
    "done",
    "alive",
    "diverged",
    "failed",
    "best lr (eval loss)",
    "tokens/s",
    "trials/h",
    "FLOP/s",
    "of peak",
)
# trains a sweep, reports to the observer, and calls the check between steps
Run = Callable[[Observer, Check], None]


class Echo:
    """Copies records to stdout if it is piped; the sweep goes on if the reader leaves early."""

    def __init__(self, enabled: bool = True) -> None:
        # an engine may point sys.stdout elsewhere
        self._stdout, self._enabled = sys.stdout.buffer, enabled and not sys.stdout.isatty()

    def file(self, path: Path) -> None:
        """Copy the whole file, a block at a time."""
        with path.open("rb") as content:
            while self._enabled and (block := content.read(BLOCK)):
                self.write(block)

    def write(self, data: bytes) -> None:
        """Copy bytes, unless stdout is a terminal or its reader has left."""
        if not self._enabled:
            return
        try:
            self._stdout.write(data)
            self._stdout.flush()
        except BrokenPipeError:
            self._enabled = False
            note("warning: the reader of stdout has left; the folder still receives the records")


@dataclass
class _Width:
    """The state of one width: its records, and its groups in training."""

    trials: int
    trial_flops: float
    trial_tokens: int
    records: list[TrialRecord] = field(default_factory=list)
    running: dict[str, Progress] = field(default_factory=dict)
    of_peak: float | None = None
    tokens: int = 0
    seconds: float = 0.0

    def count(self, status: str) -> int:
        return sum(record.status == status for record in self.records)

    @property
    def diverged(self) -> int:
        now = (progress.running - progress.alive for progress in self.running.values())
        return self.count("diverged") + sum(now)

    @property
    def alive(self) -> int:
        return self.count("ok") + sum(progress.alive for progress in self.running.values())

    @property
    def best(self) -> str:
        good = [(r.eval_loss, r.lr) for r in self.records if r.eval_loss is not None]
        return f"{power(min(good)[1])} ({min(good)[0]:.4f})" if good else "-"

    @property
    def tokens_per_second(self) -> float:
        """Speed of one device since the display began; 0 before anything was trained."""
        tokens = self.tokens + sum(progress.tokens for progress in self.running.values())
        seconds = self.seconds + sum(progress.seconds for progress in self.running.values())
        return tokens / seconds if seconds else 0.0

    @property
    def speed(self) -> tuple[str, str, str, str]:
        """Tokens per second, trials per hour, model FLOP/s and share of the peak, as cells."""
        trials_per_second = self.tokens_per_second / self.trial_tokens
        if not trials_per_second:
            return "-", "-", "-", "-"
        return (
            f"{self.tokens_per_second:,.0f}",
            f"{3600 * trials_per_second:,.0f}",
            f"{self.trial_flops * trials_per_second:.1e}",
            "-" if self.of_peak is None else f"{self.of_peak:.0%}",
        )

    @property
    def flops_left(self) -> float:
        done = sum(progress.trials_done for progress in self.running.values())
        left = self.trials - len(self.records) - done
        return self.trial_flops * max(0.0, left)


class SweepDisplay:
    """Shows a sweep in training, beginning with earlier records, and ends with one table."""

    def __init__(self, sweep: Sweep, recorded: Sequence[TrialRecord], echo: Echo) -> None:
        tokens = sweep.protocol.batch_tokens * sweep.protocol.train.steps
        self._widths = {
            width: _Width(len(trials), sweep.cost(width).flops, tokens)
            for width, trials in sweep.trials.items()
        }
        for record in recorded:
            if record.width in self._widths and record.status != "failed":
                self._widths[record.width].records.append(record)
        self._echo = echo
        self._flops_at_start = self._flops_left()
        self._started = time.perf_counter()
        self._console = console(to_stderr=True)
        self._live = Live(
            console=self._console,
            get_renderable=self._table,
            refresh_per_second=4,
            redirect_stdout=False,  # stdout carries results
        )

    def __enter__(self) -> SweepDisplay:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._console.is_terminal:
            self._live.stop()
        else:
            self._console.print(self._table())

    def stepped(self, width: int, group: str, progress: Progress) -> None:
        """Show the progress of a group."""
        self._widths[width].running[group] = progress

    def measured(self, throughput: ThroughputRecord) -> None:
        """Show the share of the peak that a width reached."""
        from mutransfer_cli.cli.talk import detail
        from mutransfer_cli.sweep.choice import ran

        self._echo.write(throughput.line())
        self._widths[throughput.width].of_peak = throughput.of_peak
        detail(lambda: ran(throughput), self.noted)

    def recorded(self, records: Sequence[TrialRecord]) -> None:
        """Show the records of finished trials of one group."""
        self._echo.write(b"".join(record.line() for record in records))
        width = records[0].width
        at = self._widths[width]
        before = at.running.pop(records[0].group, None)
        if before is not None:
            at.tokens, at.seconds = at.tokens + before.tokens, at.seconds + before.seconds
        at.records += records
        if not self._console.is_terminal:
            note(
                f"width {width}: {len(at.records)} of {at.trials} trials, {at.diverged} diverged, "
                f"best lr {at.best}, {at.tokens_per_second:,.0f} tokens/s, {self._time_left()} left"
            )

    def noted(self, sentence: str) -> None:
        """Print a sentence above the display."""
        # on one line, whatever its length; square brackets are part of the sentence
        self._console.print(sentence, soft_wrap=True, markup=False)

    def _flops_left(self) -> float:
        return sum(at.flops_left for at in self._widths.values())

    def _time_left(self) -> str:
        """Time left at the FLOP/s so far: an upper bound, because wide models reach more FLOP/s."""
        left = self._flops_left()
        done = self._flops_at_start - left
        elapsed = time.perf_counter() - self._started
        if not left:
            return "nothing"
        return f"at most {duration(left * elapsed / done)}" if done else "?"

    def _table(self) -> Table:
        table = right_aligned(COLUMNS)
        if self._flops_left():
            table.caption = f"{self._time_left()} left"
        for width, at in self._widths.items():
            counts = (width, at.trials, len(at.records), at.alive, at.diverged, at.count("failed"))
            table.add_row(*map(str, counts), at.best, *at.speed)
        return table


def train_here(
    sweep: Sweep,
    folder: Path,
    device: torch.device,
    workers: Workers,
    settings: Settings,
    echo: Echo,
    stop: Check = lambda: None,
) -> None:
    """Train a sweep on this machine until it is done, or until Ctrl-C or `stop` raises."""
    with RecordStore(folder, sweep.header(device)) as store:
        watch(sweep, store, echo, partial(run, sweep, store, workers, settings), stop)


def watch(
    sweep: Sweep, store: RecordStore, echo: Echo, run: Run, stop: Check = lambda: None
) -> None:
    """Run the sweep with its display, and report the outcome.

    Raises:
        SweepInterrupted: the user stopped it.
        SweepIncomplete: trials failed.
    """
    echo.file(store.path)
    wanted = [trial.id for trials in sweep.trials.values() for trial in trials]
    before = [store.trials[trial] for trial in wanted if trial in store.trials]
    try:
        with SweepDisplay(sweep, before, echo) as display, Interrupt() as interrupt:

            def check() -> None:
                interrupt.check()
                stop()

            run(display, check)
    except KeyboardInterrupt:
        raise SweepInterrupted(
            f"interrupted; {len(store.trials)} records are in {store.path}; "
            "run the same command again to resume"
        ) from None
    for sentence in underflow_warnings(sweep, store.trials, store.diagnostics_path):
        note(f"warning: {sentence}")
    failed = [store.trials[trial] for trial in wanted if store.trials[trial].status == "failed"]
    note(f"records: {store.path}")
    if failed:
        raise SweepIncomplete(
            f"{len(failed)} trials failed, the first with: {failed[0].error}; "
            "run the same command again to retry them"
        )
