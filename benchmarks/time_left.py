"""Compares the time left that `sweep-proxy` shows with what it then took, on the quickstart.

For each number of workers the command runs in a pseudo-terminal three times: to its end; until it
is stopped; and again, resumed. Other programs make the truth uncertain: each row says which share
of a core each worker had before and after it, and what the ratio is to the time that the rest of
the CPU time would have taken at the share before.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from mutransfer_cli.spec.sources import shipped_recipes
from tests.cli.terminal import Command
from tests.sweep.running import command, of_session

COLUMNS = 200
SHOWN = re.compile(r"^[━─]+  (\d+)%  about (.+?) left", re.MULTILINE)
UNITS = {"s": 1, "min": 60, "h": 3600, "days": 86400}
MARKS = (0.2, 0.35, 0.5, 0.65, 0.8, 0.9)  # shares of the run's time
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Sample:
    """The display at one moment: seconds since the start, stated left, percent, CPU seconds."""

    at: float
    stated: float
    percent: int
    cpu: float


def seconds_of(duration: str) -> float:
    """The seconds of `1 min 20 s`."""
    parts = re.findall(r"(\d+) (s|min|h|days)", duration)
    return float(sum(int(number) * UNITS[unit] for number, unit in parts))


def cpu_seconds(leader: int, known: dict[int, float]) -> float:
    """CPU seconds of a session's processes, those that have ended included; updates `known`."""
    for pid in of_session(leader):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        known[pid] = (int(fields[11]) + int(fields[12])) / TICK
    return sum(known.values())


def watched(spec: Path, folder: Path, workers: int, stop_at: int = 100) -> list[Sample]:
    """Run the command, until it has done a percentage; the last sample is its end."""
    run = Command(command(spec, folder, "--device", "cpu", "--workers", workers), COLUMNS)
    samples: list[Sample] = []
    due, known = 0.0, dict[int, float]()
    while run.read():
        at = time.monotonic() - run.started
        found = SHOWN.search("\n".join(run.terminal.text))
        if found is None or at < due:
            continue
        due = at + 0.5
        percent = int(found[1])
        samples.append(Sample(at, seconds_of(found[2]), percent, cpu_seconds(run.pid, known)))
        if percent >= stop_at:
            os.kill(run.pid, signal.SIGINT)
            stop_at = 101
    run.finish()
    samples.append(Sample(time.monotonic() - run.started, 0.0, 100, samples[-1].cpu))
    return samples


def row(samples: Sequence[Sample], mark: float, workers: int) -> str:
    """Compare the statement at a share of the time with the truth."""
    end = samples[-1].at
    found = min(samples[:-1], key=lambda sample: abs(sample.at - mark * end))
    first, truth = samples[0], end - found.at
    before = (found.cpu - first.cpu) / max(0.5, found.at - first.at)
    after = (samples[-1].cpu - found.cpu) / max(0.5, truth)
    at_the_same = (samples[-1].cpu - found.cpu) / before if before else truth
    stated = found.stated
    return (
        f"{found.at / end:.0%} | {found.percent}% | {stated:.0f} | {truth:.0f} | "
        f"{stated / truth:.2f} | {before / workers:.2f}, {after / workers:.2f} | "
        f"{stated / max(at_the_same, 0.5):.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--spec", type=Path, default=shipped_recipes()["quickstart"])
    asked = parser.parse_args()
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, torch {torch.__version__}, {platform.machine()}, "
        f"{os.cpu_count()} cores"
    )
    print(
        "| workers | run | time | work | stated (s) | truth (s) | ratio | "
        "cores of a worker before, after | ratio at the same |"
    )
    print("|" + "---|" * 9)
    for workers in asked.workers:
        with tempfile.TemporaryDirectory() as folder:
            whole = watched(asked.spec, Path(folder) / "whole", workers)
            half = Path(folder) / "stopped"
            watched(asked.spec, half, workers, stop_at=35)
            resumed = watched(asked.spec, half, workers)
        for name, samples in {"fresh": whole, "resumed": resumed}.items():
            marks = MARKS if name == "fresh" else (0.0, *MARKS)
            for mark in marks:
                print(f"| {workers} | {name} | {row(samples, mark, workers)} |", flush=True)


if __name__ == "__main__":
    main()
