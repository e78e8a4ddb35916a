"""A sweep in training, watched: its display, its copy on stdout, what came of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from mutransfer_cli.cli.console import note
from mutransfer_cli.cli.progress import SweepDisplay
from mutransfer_cli.errors import SweepIncomplete, SweepInterrupted
from mutransfer_cli.sweep.choice import Settings
from mutransfer_cli.sweep.interrupt import Interrupt
from mutransfer_cli.sweep.local import Workers, run
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.store import RecordStore
from mutransfer_cli.sweep.underflow import underflow_warnings

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
