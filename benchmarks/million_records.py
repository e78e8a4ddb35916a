"""Appends a million records group by group, each with its fsync, and opens the folder again.

Opening, the first step of resuming, is measured in its own process; the peak memory includes the
libraries (about 300 MB, most of it torch). The time to append leaves out making the records, and
no curves are written.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.cases import Case
from mutransfer_cli.spec.records import SweepHeader, TrialRecord
from mutransfer_cli.sweep.store import Finished, RecordStore

ODD = 0x9E3779B97F4B  # times a counter, modulo 2^48: identities that look random and never repeat


def sweep_header() -> SweepHeader:
    case = Case(32, 256, 4, 64, trials=2, depth=2, head_size=16, device_name="cpu")
    return case.sweep().header(case.device())


def trial_record(index: int, group_size: int, chance: random.Random) -> TrialRecord:
    diverged = index % 50 == 0
    return TrialRecord.model_validate(
        {
            "trial": f"{index * ODD % 2**48:012x}",
            "width": 32 << index % 5,
            "seed": index % 7,
            "lr": 2 ** -chance.uniform(2, 12),
            "weight_decay": 0.1,
            "status": "diverged" if diverged else "ok",
            "train_loss": None if diverged else chance.uniform(2, 4),
            "eval_loss": None if diverged else chance.uniform(2, 4),
            "diverged_at": 400 if diverged else None,
            "steps": 400 if diverged else 1000,
            "tokens": 102_400 if diverged else 256_000,
            "flops": chance.uniform(1e11, 1e13),
            "seconds": round(chance.uniform(0, 9), 4),
            "group": f"{index // group_size * ODD % 2**48:012x}",
            "group_size": group_size,
            "device": "NVIDIA H100 80GB HBM3",
            "compiled": True,
        },
        strict=True,
    )


def append(folder: Path, count: int, group_size: int) -> float:
    """Append the records and return the seconds spent in `append`."""
    chance, seconds = random.Random(0), 0.0
    with RecordStore(folder, sweep_header()) as store:
        for first in range(0, count, group_size):
            indices = range(first, min(first + group_size, count))
            group = [trial_record(index, group_size, chance) for index in indices]
            started = time.perf_counter()
            store.append(Finished(group))
            seconds += time.perf_counter() - started
    return seconds


def load(folder: Path) -> str:
    """Open the folder and return its records, the seconds and the peak MB of this process."""
    header = sweep_header()
    started = time.perf_counter()
    with RecordStore(folder, header) as store:
        seconds = time.perf_counter() - started
    return f"{len(store.trials)} {seconds:.1f} {peak_mb():.0f}"


def peak_mb() -> float:
    # Linux; ru_maxrss would be the parent's where that is larger
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].removesuffix("kB")) * 1024 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--group-size", type=int, default=1000, help="records per fsync")
    parser.add_argument("--folder", type=Path, help="folder to write; default: temporary")
    parser.add_argument("--load", type=Path, help="only open this folder and measure that")
    options = parser.parse_args()
    if options.load:
        print(load(options.load))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        append_seconds = append(folder, options.records, options.group_size)
        size = sum(path.stat().st_size for path in folder.iterdir())
        command = [sys.executable, "-m", "benchmarks.million_records", "--load", name]
        opened = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    records, load_seconds, peak = opened.split()
    assert int(records) == options.records
    print("| records | append, s | load, s | peak RSS, MB | bytes on disk |")
    print("|---|---|---|---|---|")
    print(f"| {records} | {append_seconds:.1f} | {load_seconds} | {peak} | {size} |")


if __name__ == "__main__":
    main()
