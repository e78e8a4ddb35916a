"""The display of a running sweep: live on a terminal, a line for finished trials elsewhere.

MERGED:
A sweep in training, watched: its display, its copy on stdout, what came of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from rich.live import Live
from rich.table import Table

from mutransfer_cli.cli.console import console, duration, note, power_of_two
from mutransfer_cli.errors import SweepIncomplete, SweepInterrupted
from mutransfer_cli.sweep.choice import Settings
from mutransfer_cli.sweep.local import Workers, run
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.stop import Interrupt
from mutransfer_cli.sweep.store import RecordStore
from mutransfer_cli.sweep.underflow import underflow_warnings

if TYPE_CHECKING:
    from mutransfer_cli.spec.records import ThroughputRecord, TrialRecord
    from mutransfer_cli.train.loop import Progress


@dataclass
class _Width:
    """What is known of one width: its records, and its groups in training."""

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
        return f"{power_of_two(min(good)[1])} ({min(good)[0]:.4f})" if good else "-"

    @property
    def tokens_per_second(self) -> float:
        """Of one device, since the display began; 0 before anything was trained."""
        tokens = self.tokens + sum(progress.tokens for progress in self.running.values())
        seconds = self.seconds + sum(progress.seconds for progress in self.running.values())
        return tokens / seconds if seconds else 0.0

    @property
    def trials_per_hour(self) -> float:
        return 3600 * self.tokens_per_second / self.trial_tokens

    @property
    def flops_per_second(self) -> float:
        """Model FLOPs: forward and backward."""
        return self.tokens_per_second * self.trial_flops / self.trial_tokens

    @property
    def flops_left(self) -> float:
        done = sum(progress.trials_done for progress in self.running.values())
        left = self.trials - len(self.records) - done
        return self.trial_flops * max(0.0, left)


class SweepDisplay:
    """Watches a sweep; a context manager that leaves one summary table behind.

    Args:
        trials, trial_flops: of each width.
        trial_tokens: that each trial is trained on.
        recorded: records from before.
    """

    def __init__(
        self,
        trials: Mapping[int, int],
        trial_flops: Mapping[int, float],
        trial_tokens: int,
        recorded: Sequence[TrialRecord],
    ) -> None:
        self._widths = {
            width: _Width(trials[width], trial_flops[width], trial_tokens) for width in trials
        }
        for record in recorded:
            if record.width in self._widths and record.status != "failed":
                self._widths[record.width].records.append(record)
        self._flops_at_start = self._flops_left()
        self._started = time.perf_counter()
        self._console = console(to_stderr=True)
        self._live = Live(
            console=self._console,
            get_renderable=self._table,
            refresh_per_second=4,
            redirect_stdout=False,  # what others print there is not for the display
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
        self._widths[width].running[group] = progress

    def measured(self, throughput: ThroughputRecord) -> None:
        self._widths[throughput.width].of_peak = throughput.of_peak

    def recorded(self, records: Sequence[TrialRecord]) -> None:
        """Records of trials of one group."""
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
        # one line, whatever the width; square brackets are the sentence's own
        self._console.print(sentence, soft_wrap=True, markup=False)

    def _flops_left(self) -> float:
        return sum(at.flops_left for at in self._widths.values())

    def _time_left(self) -> str:
        """At the FLOP/s so far; wide models reach more of them, so it is an upper bound."""
        left = self._flops_left()
        done = self._flops_at_start - left
        elapsed = time.perf_counter() - self._started
        if not left:
            return "nothing"
        return f"at most {duration(left * elapsed / done)}" if done else "?"

    def _speed(self, at: _Width) -> tuple[str, str, str, str]:
        if not at.tokens_per_second:
            return "-", "-", "-", "-"
        return (
            f"{at.tokens_per_second:,.0f}",
            f"{at.trials_per_hour:,.0f}",
            f"{at.flops_per_second:.1e}",
            "-" if at.of_peak is None else f"{at.of_peak:.0%}",
        )

    def _table(self) -> Table:
        left = self._flops_left()
        table = Table(box=None, caption=f"{self._time_left()} left" if left else None)
        for column in (
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
        ):
            table.add_column(column, justify="right")
        for width, at in self._widths.items():
            table.add_row(
                str(width),
                str(at.trials),
                str(len(at.records)),
                str(at.alive),
                str(at.diverged),
                str(at.count("failed")),
                at.best,
                *self._speed(at),
            )
        return table


BLOCK = 1 << 20
# an engine, told who watches, who gets what is recorded, and what may stop it
Run = Callable[[SweepDisplay, Callable[[bytes], None], Callable[[], None]], None]


class Echo:
    """Copies records to stdout; a reader that leaves early does not stop the sweep."""

    def __init__(self, enabled: bool = True) -> None:
        # an engine may point sys.stdout elsewhere
        self._stdout, self._enabled = sys.stdout.buffer, enabled and not sys.stdout.isatty()

    def file(self, path: Path) -> None:
        """What is there already, a block at a time."""
        with path.open("rb") as content:
            while self._enabled and (block := content.read(BLOCK)):
                self.write(block)

    def write(self, data: bytes) -> None:
        if not self._enabled:
            return
        try:
            self._stdout.write(data)
            self._stdout.flush()
        except BrokenPipeError:
            self._enabled = False
            note("warning: the reader of stdout has left; the records go on into the folder")


def nothing() -> None:
    """Stops no sweep."""


def train_here(
    sweep: Sweep,
    folder: Path,
    device: torch.device,
    workers: Workers,
    settings: Settings,
    echo: Echo,
    stop: Callable[[], None] = nothing,
) -> None:
    """Trains a sweep on this machine.

    Args:
        stop: called several times a second, beside Ctrl-C; raises to stop there.
    """
    with RecordStore(folder, sweep.header(device)) as store:
        watch(sweep, store, echo, partial(run, sweep, store, workers, settings), stop)


def watch(
    sweep: Sweep, store: RecordStore, echo: Echo, run: Run, stop: Callable[[], None] = nothing
) -> None:
    """Runs the sweep under the display's eyes, and says what came of it."""
    echo.file(store.path)
    wanted = [trial.id for trials in sweep.trials.values() for trial in trials]
    display = SweepDisplay(
        {width: len(trials) for width, trials in sweep.trials.items()},
        {width: sweep.cost(width).flops for width in sweep.trials},
        sweep.protocol.batch_tokens * sweep.protocol.train.steps,
        [store.trials[trial] for trial in wanted if trial in store.trials],
    )
    try:
        with display, Interrupt() as interrupt:

            def check() -> None:
                interrupt.check()
                stop()

            run(display, echo.write, check)
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
