"""Trains the quickstart with fresh seeds and asks `mutransfer check` for its verdict on each run.

python -m benchmarks.quickstart --sets 10
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
import yaml

from mutransfer_cli.check.measure import CHECK, Check, read_check
from mutransfer_cli.spec.sources import load_spec, shipped_recipes

PROGRAM = (sys.executable, "-m", "mutransfer_cli")
VERDICTS = (0, 3, 4)  # exit codes of pass, fail and inconclusive


@dataclass(frozen=True)
class Measured:
    """One run of the chain: its verdicts, and the CPU and wall time of its sweep in seconds."""

    check: Check
    cpu: float
    wall: float


def seed_sets(name: str, first: int, sets: int) -> list[tuple[int, ...]]:
    """Disjoint sets of as many seeds as the recipe has; set 0 is the recipe's own."""
    count = len(load_spec(name)[0].sweep.seeds)
    return [
        tuple(range(number * count, (number + 1) * count)) for number in range(first, first + sets)
    ]


def measured(
    name: str, seeds: Sequence[int], folder: Path, options: Sequence[str] = ()
) -> Measured:
    """Train the recipe with these seeds, and check its records."""
    spec = yaml.safe_load(shipped_recipes()[name].read_text())
    spec["sweep"]["seeds"] = list(seeds)
    path, records = folder / "spec.yaml", folder / "records"
    path.write_text(yaml.safe_dump(spec))
    before, started = cpu_of_children(), time.perf_counter()
    call("sweep-proxy", path, "-o", records, *options)
    cpu, wall = cpu_of_children() - before, time.perf_counter() - started
    call("check", records, "-o", folder / CHECK, allowed=VERDICTS)
    found = read_check(folder / CHECK)
    assert found is not None, "check has written it"
    return Measured(found, cpu, wall)


def call(*arguments: object, allowed: Sequence[int] = (0,)) -> None:
    command = [*PROGRAM, *map(str, arguments)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if ended.returncode not in allowed:
        raise RuntimeError(f"{' '.join(command)}: exit code {ended.returncode}\n{ended.stderr}")


def cpu_of_children() -> float:
    """CPU seconds of all ended children and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def row(seeds: Sequence[int], found: Measured) -> str:
    """One line of the table."""
    gates = {gate.gate: gate for gate in found.check.gates}
    exponent = gates["exponent"].measures[0]
    interval = f"{exponent.low:+.3f} to {exponent.high:+.3f}" if exponent.value is not None else "-"
    value = f"{exponent.value:+.3f}" if exponent.value is not None else "-"
    return (
        f"| {', '.join(map(str, seeds))} | {value} | {interval} | {exponent.verdict} "
        f"| {gates['transfer'].verdict} | {found.check.verdict} "
        f"| {found.cpu:.0f} | {found.wall:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="quickstart")
    parser.add_argument("--first", type=int, default=1, help="Number of the first set of seeds.")
    parser.add_argument("--sets", type=int, default=10, help="Number of sets of seeds.")
    parser.add_argument("--workers", type=int, help="Processes that train. Default: one per core.")
    asked = parser.parse_args()
    options = [] if asked.workers is None else ["--workers", str(asked.workers)]
    print(
        f"{asked.recipe}, {datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, torch "
        f"{torch.__version__}, {platform.machine()}, {os.cpu_count()} cores"
    )
    print("| seeds | exponent | 95% interval | its gate | transfer | check | CPU s | wall s |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    verdicts: Counter[str] = Counter()
    for seeds in seed_sets(asked.recipe, asked.first, asked.sets):
        with tempfile.TemporaryDirectory() as folder:
            found = measured(asked.recipe, seeds, Path(folder), options)
        verdicts[found.check.verdict] += 1
        print(row(seeds, found), flush=True)
    print(", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()))


if __name__ == "__main__":
    main()
