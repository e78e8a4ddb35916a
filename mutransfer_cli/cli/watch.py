"""A sweep in training, as its user sees it: the display, records copied to stdout, the outcome.

On a terminal the display is live; otherwise each finished group has a line. A table ends both.
"""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from mutransfer_cli.cli.console import note, warn
from mutransfer_cli.cli.progress import Best, Screen, State, progress_line, stopped, table_lines
from mutransfer_cli.errors import SweepIncomplete
from mutransfer_cli.sweep.choice import Settings
from mutransfer_cli.sweep.driver import Observer
from mutransfer_cli.sweep.local import Workers, run
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.spawn import Kind
from mutransfer_cli.sweep.stop import Interrupt
from mutransfer_cli.sweep.store import RecordStore
from mutransfer_cli.sweep.time_left import Planned, TimeLeft
from mutransfer_cli.sweep.underflow import underflow_warnings
from mutransfer_cli.train.loop import Check, Progress
from mutransfer_cli.words import about, loss, rate

if TYPE_CHECKING:
    from mutransfer_cli.spec.records import ThroughputRecord, TrialRecord

BLOCK = 1 << 20
BETWEEN_LOOKS = 0.2  # seconds
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
            warn("the reader of stdout has left; the folder still receives the records")


@dataclass
class _Width:
    """The state of one width: its finished trials, and its groups in training."""

    trials: int
    trial_flops: float
    trial_tokens: int
    counts: Counter[str] = field(default_factory=Counter)
    running: dict[str, Progress] = field(default_factory=dict)
    best: Best | None = None
    of_peak: float | None = None
    tokens: int = 0
    seconds: float = 0.0
    touched: float = 0.0

    def add(self, record: TrialRecord) -> None:
        self.counts[record.status] += 1
        if record.eval_loss is not None:
            found = Best(record.eval_loss, record.lr, record.width)
            self.best = min(filter(None, (self.best, found)), key=lambda best: best.loss)

    @property
    def done(self) -> int:
        return self.counts.total()

    @property
    def diverged(self) -> int:
        now = (progress.running - progress.alive for progress in self.running.values())
        return self.counts["diverged"] + sum(now)

    @property
    def alive(self) -> int:
        return self.counts["ok"] + sum(progress.alive for progress in self.running.values())

    @property
    def tokens_per_second(self) -> float:
        """Speed of one device since the display began; 0 before anything was trained."""
        tokens = self.tokens + sum(progress.tokens for progress in self.running.values())
        seconds = self.seconds + sum(progress.seconds for progress in self.running.values())
        return tokens / seconds if seconds else 0.0

    def row(self, width: int) -> dict[str, str]:
        """The cells of the table, by column."""
        each = self.tokens_per_second / self.trial_tokens
        return {
            "width": str(width),
            "trials": str(self.trials),
            "done": str(self.done),
            "alive": str(self.alive),
            "diverged": str(self.diverged),
            "failed": str(self.counts["failed"]),
            "best lr": rate(self.best.lr) if self.best else "-",
            "loss": loss(self.best.loss) if self.best else "-",
            "tokens/s": f"{self.tokens_per_second:,.0f}" if each else "-",
            "trials/h": f"{3600 * each:,.0f}" if each else "-",
            "FLOP/s": f"{self.trial_flops * each:.1e}" if each else "-",
            "of peak": "-" if self.of_peak is None else f"{self.of_peak:.0%}",
        }


class SweepDisplay:
    """Shows a sweep in training, beginning with earlier records; `end` leaves one table."""

    def __init__(
        self,
        sweep: Sweep,
        recorded: Sequence[TrialRecord],
        echo: Echo,
        screen: Screen,
        device_type: str,
    ) -> None:
        tokens = sweep.protocol.batch_tokens * sweep.protocol.train.steps
        self._widths = {
            width: _Width(len(trials), sweep.cost(width).flops, tokens)
            for width, trials in sweep.trials.items()
        }
        earlier = [record for record in recorded if record.status != "failed"]
        for record in earlier:
            self._widths[record.width].add(record)
        self._time_left = TimeLeft.of(sweep, earlier, device_type)
        self._echo, self._screen = echo, screen
        self._looked = -math.inf

    def planned(self, groups: Sequence[Planned], at_once: int | None) -> None:
        """Note what will be trained, in which order."""
        self._time_left.planned(groups, at_once)
        self._look()

    def dropped(self, width: int, group: str) -> None:
        """Forget a group that ended without all its records."""
        self._time_left.dropped(group)
        self._widths[width].running.pop(group, None)

    def stepped(self, width: int, group: str, progress: Progress) -> None:
        """Show the progress of a group."""
        at = self._widths[width]
        at.running[group], at.touched = progress, time.monotonic()
        self._time_left.stepped(group, progress, time.monotonic())
        if time.monotonic() - self._looked > BETWEEN_LOOKS:
            self._look()

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
        width, group = records[0].width, records[0].group
        at = self._widths[width]
        before = at.running.pop(group, None)
        if before is not None:
            at.tokens, at.seconds = at.tokens + before.tokens, at.seconds + before.seconds
        for record in records:
            at.add(record)
        at.touched = time.monotonic()
        whole = self._time_left.recorded(group, width, len(records))
        self._look()
        if whole and not self._screen.live:
            note(self._sentence(width))

    def noted(self, sentence: str) -> None:
        """Print a sentence above the display."""
        # on one line, whatever its length; square brackets are part of the sentence
        self._screen.prints(sentence)

    def end(self) -> None:
        """Leave the table instead of the display."""
        self._screen.clear()
        for line in table_lines(self._rows(list(self._widths)), self._screen.columns):
            self._screen.prints(line)

    def _look(self) -> None:
        """Draw the state as it is now; only the time left goes on by itself."""
        now = self._looked = time.monotonic()
        state, shown = self._state(), sorted(self._widths, key=lambda at: -self._widths[at].touched)
        begun = [at for at in shown if self._widths[at].done or self._widths[at].running]

        def draw(columns: int, lines: int) -> list[str]:
            left = state.left
            if left is not None:
                left = max(0.0, left - (time.monotonic() - now))
            rows = [rows_of[width] for width in sorted(begun[: max(0, lines - 2)])]
            line = progress_line(replace(state, left=left), columns)
            return [line, *table_lines(rows, columns)]

        rows_of = dict(zip(begun, self._rows(begun), strict=True))
        self._screen.draws(draw)

    def _state(self) -> State:
        every = self._widths.values()
        return State(
            self._time_left.share(),
            self._time_left.seconds(time.monotonic()),
            [width for width, at in self._widths.items() if at.running],
            sum(at.alive for at in every),
            sum(at.diverged for at in every),
            min((at.best for at in every if at.best), key=lambda best: best.loss, default=None),
        )

    def _rows(self, widths: Sequence[int]) -> list[dict[str, str]]:
        rows = [self._widths[width].row(width) for width in widths]
        if not any(at.counts["failed"] for at in self._widths.values()):
            for row in rows:
                del row["failed"]
        return rows

    def _sentence(self, width: int) -> str:
        at, every = self._widths[width], self._widths.values()
        done, trials = sum(w.done for w in every), sum(w.trials for w in every)
        left = self._time_left.seconds(time.monotonic())
        rest = f"; about {about(left)} left" if left else ""
        return (
            f"width {width}: {at.done} of {at.trials} trials done, {at.diverged} diverged"
            f"{f', {at.best}' if at.best else ''}; {done} of {trials} in all{rest}"
        )


def train_here(
    sweep: Sweep,
    folder: Path,
    device: torch.device,
    workers: Workers,
    settings: Settings,
    echo: Echo,
    screen: Screen,
    stop: Check = lambda: None,
) -> None:
    """Train a sweep on this machine until it is done, or until Ctrl-C or `stop` raises."""
    with RecordStore(folder, sweep.header(device)) as store:
        how = partial(run, sweep, store, workers, settings)
        watch(sweep, store, echo, screen, how, workers.kind, stop)


def watch(
    sweep: Sweep,
    store: RecordStore,
    echo: Echo,
    screen: Screen,
    run: Run,
    kind: Kind,
    stop: Check = lambda: None,
) -> None:
    """Run the sweep with its display, and report the outcome.

    Raises:
        SweepInterrupted: the user stopped it.
        SweepIncomplete: trials failed.
    """
    echo.file(store.path)
    wanted = [trial.id for trials in sweep.trials.values() for trial in trials]
    before = [store.trials[trial] for trial in wanted if trial in store.trials]
    display = SweepDisplay(sweep, before, echo, screen, kind)
    try:
        with Interrupt() as interrupt:

            def check() -> None:
                interrupt.check()
                stop()

            run(display, check)
    except KeyboardInterrupt:
        saved = sum(record.status != "failed" for record in store.trials.values())
        raise stopped(saved, store.path.parent) from None
    display.end()
    for sentence in underflow_warnings(sweep, store.trials, store.diagnostics_path):
        warn(sentence)
    failed = [store.trials[trial] for trial in wanted if store.trials[trial].status == "failed"]
    note(f"records: {store.path}")
    if failed:
        raise SweepIncomplete(
            f"{len(failed)} trials failed, the first with: {failed[0].error}; "
            "run the same command again to retry them"
        )
