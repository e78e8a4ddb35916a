"""Runs a sweep on this machine: width by width, each trial recorded as soon as it is finished."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol as Interface

import torch

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.files.records import ThroughputRecord, TrialRecord
from mutransfer_cli.sweep.choice import Settings
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.store import Finished, RecordStore
from mutransfer_cli.sweep.training import train_queue
from mutransfer_cli.sweep.trials import pending
from mutransfer_cli.train.group_size import most_slots
from mutransfer_cli.train.loop import Progress


class Observer(Interface):
    """Who watches a sweep."""

    def stepped(self, width: int, group: str, progress: Progress) -> None: ...

    def recorded(self, records: Sequence[TrialRecord]) -> None: ...

    def measured(self, throughput: ThroughputRecord) -> None: ...

    def noted(self, sentence: str) -> None: ...


def run(
    sweep: Sweep,
    store: RecordStore,
    device: torch.device,
    settings: Settings,
    observer: Observer,
    emit: Callable[[bytes], None],
    check: Callable[[], None],
) -> None:
    """Trains every trial that has no finished record.

    Args:
        emit: gets what is appended to the record file.
        check: called at every step and after every record; raises to stop the sweep there.
    """
    for width in sweep.trials:
        # what does not fit is refused before anything is trained
        most_slots(sweep.protocol, width, sweep.cost(width), device)
    text = DeviceText.on(device, sweep.corpus)
    sink = StoreSink(store, observer, emit)
    for width, trials in sweep.trials.items():
        rest = pending(trials, store.trials)
        if rest:
            checkpoint = store.path.with_name(f"checkpoint-{width}.pt")
            train_queue(sweep, rest, text, settings, sink, check, checkpoint)


class StoreSink:
    """Records go into the store, to whoever reads stdout, and to the display."""

    def __init__(
        self,
        store: RecordStore,
        observer: Observer,
        emit: Callable[[bytes], None],
    ) -> None:
        self.store, self.emit = store, emit
        self.stepped, self.noted, self.observer = observer.stepped, observer.noted, observer

    def finished(self, found: Finished) -> None:
        self.store.append(found)
        self.emit(b"".join(record.line() for record in found.records))
        self.observer.recorded(found.records)

    def measured(self, throughput: ThroughputRecord) -> None:
        self.store.append_throughput(throughput)
        self.emit(throughput.line())
        self.observer.measured(throughput)
