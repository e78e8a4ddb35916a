"""Times the quickstart with one worker and with one per core, the latter also beside a busy program
(`make bench`).

The three take turns in one run. Medians of the rounds are compared, and every run must give the
same losses.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import torch

from mutransfer_cli.spec.sources import shipped_recipes
from mutransfer_cli.train.cgroups import usable_cores
from tests.sweep.running import Table, command, table

SPEC = shipped_recipes()["quickstart"]
BUSY = "while True: pass"


@contextlib.contextmanager
def busy_program() -> Iterator[None]:
    """Run a single-threaded program that keeps one core busy."""
    with subprocess.Popen([sys.executable, "-c", BUSY]) as process:
        try:
            yield
        finally:
            process.kill()


def timed(*options: object) -> tuple[float, float, Table]:
    """Return the command's seconds, the seconds until its first line, and its table."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = command(SPEC, Path(folder) / "out", "--device", "cpu", *options)
        started = time.perf_counter()
        with subprocess.Popen(
            arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            process.stderr.readline()
            first = time.perf_counter() - started
            process.stderr.read()
        assert process.returncode == 0
        return time.perf_counter() - started, first, table(Path(folder) / "out")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    cores = usable_cores()
    names = ("1 worker", f"{cores} workers", f"{cores} workers, a busy program beside them")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    firsts, tables = [], []
    for _ in range(rounds):
        for name, options in zip(names, (["--workers", 1], [], []), strict=True):
            beside = busy_program() if name == names[2] else contextlib.nullcontext()
            with beside:
                took, first, found = timed(*options)
            print(f"{name}: {took:.1f} s, first line after {first:.2f} s", flush=True)
            seconds[name].append(took)
            firsts.append(first)
            tables.append(found)
    assert all(found == tables[0] for found in tables), "the losses differ"
    one, many, beside_busy = (statistics.median(seconds[name]) for name in names)
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, torch {torch.__version__}, {platform.machine()}, "
        f"{os.cpu_count()} cores; medians of {rounds}; same losses in all {len(tables)} runs"
    )
    print(f"first line after {statistics.median(firsts):.2f} s")
    print("| quickstart | seconds | |")
    print("|---|---|---|")
    print(f"| {names[0]} | {one:.1f} | |")
    print(f"| {names[1]} | {many:.1f} | {one / many:.2f} times as fast as one |")
    print(f"| {names[2]} | {beside_busy:.1f} | {beside_busy / many:.2f} times as long as alone |")


if __name__ == "__main__":
    main()
