"""The display of a running sweep: live on a terminal, a line for finished trials elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rich.live import Live
from rich.table import Table

from mutransfer_cli.cli.console import note
from mutransfer_cli.cli.tables import console, duration, power_of_two

if TYPE_CHECKING:
    from mutransfer_cli.files.records import TrialRecord
    from mutransfer_cli.train.loop import Progress


@dataclass
class _Width:
    """What is known of one width: its records, and the trials in training if there are some."""

    trials: int
    trial_flops: float
    trial_tokens: int
    records: list[TrialRecord] = field(default_factory=list)
    running: Progress | None = None
    tokens: int = 0
    seconds: float = 0.0

    def count(self, status: str) -> int:
        return sum(record.status == status for record in self.records)

    @property
    def diverged(self) -> int:
        now = self.running.running - self.running.alive if self.running else 0
        return self.count("diverged") + now

    @property
    def alive(self) -> int:
        return self.count("ok") + (self.running.alive if self.running else 0)

    @property
    def best(self) -> str:
        good = [(r.eval_loss, r.lr) for r in self.records if r.eval_loss is not None]
        return f"{power_of_two(min(good)[1])} ({min(good)[0]:.4f})" if good else "-"

    @property
    def tokens_per_second(self) -> float:
        """Since the display began; 0 before anything was trained."""
        tokens = self.tokens + (self.running.tokens if self.running else 0)
        seconds = self.seconds + (self.running.seconds if self.running else 0.0)
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
        left = float(self.trials - len(self.records))
        if self.running:
            left -= self.running.trials_done
        return self.trial_flops * max(0.0, left)


class SweepDisplay:
    """Watches a sweep; a context manager that leaves one summary table behind.

    Args:
        trials, trial_flops: of each width.
        trial_tokens: that each trial is trained on.
        recorded: records from before.
        peak: FLOP/s of the device's matrix units in the run's precision.
    """

    def __init__(
        self,
        trials: Mapping[int, int],
        trial_flops: Mapping[int, float],
        trial_tokens: int,
        recorded: Sequence[TrialRecord],
        peak: float,
    ) -> None:
        self._peak = peak
        self._widths = {
            width: _Width(trials[width], trial_flops[width], trial_tokens) for width in trials
        }
        for record in recorded:
            if record.width in self._widths and record.status != "failed":
                self._widths[record.width].records.append(record)
        self._flops_at_start = self._flops_left()
        self._started = time.perf_counter()
        self._console = console(to_stderr=True)
        self._live = Live(console=self._console, get_renderable=self._table, refresh_per_second=4)

    def __enter__(self) -> SweepDisplay:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._console.is_terminal:
            self._live.stop()
        else:
            self._console.print(self._table())

    def stepped(self, width: int, progress: Progress) -> None:
        self._widths[width].running = progress

    def recorded(self, width: int, records: Sequence[TrialRecord]) -> None:
        at = self._widths[width]
        if at.running is not None:
            at.tokens, at.seconds = at.tokens + at.running.tokens, at.seconds + at.running.seconds
        at.running = None
        at.records += records
        if not self._console.is_terminal:
            note(
                f"width {width}: {len(at.records)} of {at.trials} trials, {at.diverged} diverged, "
                f"best lr {at.best}, {at.tokens_per_second:,.0f} tokens/s, {self._time_left()} left"
            )

    def noted(self, sentence: str) -> None:
        self._console.print(sentence)

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
            f"{at.flops_per_second / self._peak:.0%}",
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
