"""Times 64 groups on two local Ray workers and on one (`make bench`).

Both take turns on one machine in one run, and the ratio of each pair is kept. The start of Ray and
of its workers is measured separately.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import ray
import torch

from mutransfer_cli.spec.records import ThroughputRecord, TrialRecord
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.strict import validated
from mutransfer_cli.sweep.choice import Settings
from mutransfer_cli.sweep.driver import cut
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.ray_launcher import run
from mutransfer_cli.sweep.store import RecordStore
from mutransfer_cli.sweep.time_left import Planned
from mutransfer_cli.train.loop import Progress

GROUPS = 64


@dataclass(frozen=True)
class Times:
    """Seconds to start Ray, until each worker has trained a group, and for all groups."""

    ray: float
    workers: float
    groups: float


def prepare(groups: int, steps: int) -> Sweep:
    """Prepare a sweep whose groups each hold one trial."""
    rates = [2.0 ** (-10 + k / 16) for k in range(groups)]
    raw = {
        "schema": "mutransfer.sweep/1",
        "model": {"depth": 1, "head_size": 8},
        "data": {"source": "stdlib"},
        "parameterization": {"name": "mup", "base_width": 32},
        "train": {"steps": steps, "batch": 64, "context": 128, "warmup": 1, "eval_batches": 1},
        "sweep": {"widths": [32], "axes": {"lr": rates}},
    }
    sweep = Sweep.prepare(validated(SweepSpec, raw, "benchmark"), Path())
    assert len(cut(sweep, "cpu", workers=None)) == groups
    return sweep


class Nobody:
    """A watcher that shows nothing."""

    def planned(self, groups: Sequence[Planned], at_once: int | None) -> None:
        pass

    def dropped(self, width: int, group: str) -> None:
        pass

    def stepped(self, width: int, group: str, progress: Progress) -> None:
        pass

    def recorded(self, records: Sequence[TrialRecord]) -> None:
        pass

    def measured(self, throughput: ThroughputRecord) -> None:
        pass

    def noted(self, sentence: str) -> None:
        print(sentence)


def seconds(sweep: Sweep) -> float:
    """Return the seconds of a sweep from its first trial to its end."""
    settings = Settings("off", False, float("inf"))
    with (
        tempfile.TemporaryDirectory() as folder,
        RecordStore(Path(folder), sweep.header(None)) as store,
    ):
        started = time.perf_counter()
        run(sweep, store, "cpu", 1.0, settings, Nobody(), lambda: None)
        took = time.perf_counter() - started
        assert len(store.trials) == len(sweep.trials[32])
    return took


def measure(workers: int, sweep: Sweep, first: Sweep) -> Times:
    started = time.perf_counter()
    ray.init(
        "local",
        num_cpus=workers,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.CRITICAL,
    )
    took = time.perf_counter() - started
    times = Times(took, seconds(first), seconds(sweep))
    ray.shutdown()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    # Ray's default of 15 would yield to everything else on the machine
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    sweep = prepare(GROUPS, options.steps)
    pairs = []
    for _ in range(options.pairs):
        pair = [measure(workers, sweep, prepare(workers, 2)) for workers in (1, 2)]
        print(pair, flush=True)
        pairs.append(pair)
    print(f"{datetime.now(UTC):%Y-%m-%d}, ray {ray.__version__}, torch {torch.__version__}, CPU")
    print("| workers | Ray starts, s | workers start, s | 64 groups, s | against the ideal |")
    print("|---|---|---|---|---|")
    for index, workers in enumerate((1, 2)):
        of = [pair[index] for pair in pairs]
        ideal = statistics.median(workers * p[index].groups / p[0].groups for p in pairs)
        start, warm, groups = (
            statistics.median(getattr(times, name) for times in of)
            for name in ("ray", "workers", "groups")
        )
        print(f"| {workers} | {start:.1f} | {warm:.1f} | {groups:.1f} | {ideal:.2f} |")


if __name__ == "__main__":
    main()
