"""`sweep`: train the proxies of a spec from a program, and return their records."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mutransfer_cli.errors import InputError, SweepIncomplete, SweepInterrupted
from mutransfer_cli.notebook.given import path_of
from mutransfer_cli.notebook.runs import Run, read_run
from mutransfer_cli.spec.model import FactorySpec
from mutransfer_cli.spec.records import ThroughputRecord, TrialRecord
from mutransfer_cli.spec.sources import load_spec, spec_of
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.sweep.choice import Settings
from mutransfer_cli.sweep.local import run, started_workers
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.spawn import worker_count
from mutransfer_cli.sweep.stop import Interrupt
from mutransfer_cli.sweep.store import RecordStore
from mutransfer_cli.sweep.time_left import Planned
from mutransfer_cli.sweep.underflow import underflow_warnings
from mutransfer_cli.train.device import choose_device, slow_precision
from mutransfer_cli.train.loop import Progress
from mutransfer_cli.words import rate_and_power

SPEC = "a sweep spec: a dict, the path of a YAML file, or the name of a shipped one"
CHECKPOINT_EVERY, TIMEOUT = 60.0, 600.0  # seconds, as on the command line


def sweep(
    spec: Mapping[str, Any] | str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    variant: str | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    workers: int | None = None,
) -> Run:
    """Train the proxies of a spec on this machine, as `mutransfer sweep-proxy` does.

    Trials that the folder holds already are not run again. A line on stderr reports each group of
    trials that has finished.

    Args:
        spec: a spec as a dict, its file, or the name of a shipped one; paths in a dict start from
            the current folder.
        folder: where to write the records.
        variant: variant of the spec, such as cpu.
        device: device to train on.
        workers: processes that train; None: one per GPU, or without GPU one per CPU core.

    Raises:
        InputError: the spec, the folder or an argument cannot be used.
        SweepInterrupted: it was stopped, as by Ctrl-C or the notebook's stop button.
        SweepIncomplete: some trials failed; the others are recorded.
    """
    target = path_of(folder, "the folder to write")
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"device {device!r}: expected auto, cpu or cuda")
    if workers is not None and (not isinstance(workers, int) or workers < 1):
        raise InputError(f"workers {workers}: expected a positive whole number")
    known, spec_folder = _spec(spec, variant)
    chosen = choose_device(device, known.train.precision, known.deterministic)
    if slow := slow_precision(chosen, known.train.precision):
        _say(f"warning: {slow}")
    count = worker_count(workers, chosen.type, known.sweep.size)
    settings = Settings("auto", known.deterministic, CHECKPOINT_EVERY, known.diagnostics, TIMEOUT)
    with started_workers(chosen, count, _say) as crew:
        prepared = Sweep.prepare(known, spec_folder, _say)
        if prepared.corpus.note:
            _say(prepared.corpus.note)
        with RecordStore(target, prepared.header(chosen)) as store:
            try:
                with Interrupt() as interrupt:
                    run(prepared, store, crew, settings, Lines(prepared, store), interrupt.check)
            except KeyboardInterrupt:
                raise SweepInterrupted(
                    f"stopped: {len(store.trials)} trials are saved in {target}; run the same call "
                    "again to resume"
                ) from None
            _report(prepared, store)
    return read_run(target)


def _spec(
    given: Mapping[str, Any] | str | os.PathLike[str], variant: str | None
) -> tuple[SweepSpec, Path]:
    """The spec, and the folder that its paths start from."""
    if isinstance(given, Mapping):
        known, folder = spec_of(dict(given), "spec", variant), Path.cwd()
    else:
        known, path = load_spec(str(path_of(given, SPEC)), variant)
        folder = path.parent
    if isinstance(known.model, FactorySpec) and known.model.factory.startswith("__main__:"):
        raise InputError(
            f"model.factory {known.model.factory}: the processes that train cannot import what a "
            "notebook or script defines; put the function into a file of its own, such as "
            "my_model.py, and name it my_model:build"
        )
    return known, folder


@dataclass
class Lines:
    """An observer that says in a line what has finished."""

    sweep: Sweep
    store: RecordStore

    def planned(self, groups: Sequence[Planned], at_once: int | None) -> None:
        """Say nothing of what is to come."""

    def dropped(self, width: int, group: str) -> None:
        """Say nothing of a group that is planned again."""

    def stepped(self, width: int, group: str, progress: Progress) -> None:
        """Say nothing between the ends of groups."""

    def measured(self, throughput: ThroughputRecord) -> None:
        """Say nothing of speed."""

    def recorded(self, records: Sequence[TrialRecord]) -> None:
        """Say how many trials of the width are done, and its best rate."""
        width = records[0].width
        ids = [trial.id for trial in self.sweep.trials[width]]
        done = [self.store.trials[trial] for trial in ids if trial in self.store.trials]
        good = [(one.eval_loss, one.lr) for one in done if one.eval_loss is not None]
        best = f", best lr {rate_and_power(min(good)[1])}" if good else ""
        _say(f"width {width}: {len(done)} of {len(ids)} trials{best}")

    def noted(self, sentence: str) -> None:
        """Pass a sentence on."""
        _say(sentence)


def _report(sweep: Sweep, store: RecordStore) -> None:
    """Say what the measurements warn of, and raise SweepIncomplete if a trial failed."""
    for sentence in underflow_warnings(sweep, store.trials, store.diagnostics_path):
        _say(f"warning: {sentence}")
    wanted = [trial.id for trials in sweep.trials.values() for trial in trials]
    failed = [store.trials[trial] for trial in wanted if store.trials[trial].status == "failed"]
    if failed:
        raise SweepIncomplete(
            f"{len(failed)} trials failed, the first with: {failed[0].error}; run the same call "
            "again to retry them"
        )


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
