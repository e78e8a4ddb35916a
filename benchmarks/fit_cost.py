"""Time and memory of `mutransfer fit-exponents` on large tables, each run in a fresh process.

Imports are measured in the same run by `python -X importtime`; the best repetition counts. This
script imports nothing large, because a child's peak memory starts at its parent's.

    python -m benchmarks.fit_cost
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

NOISE = 0.0025  # nats
SPAN = 6.0  # range of learning rates about the optimum, octaves
IMPORT = "import time:"  # first words of a line of `-X importtime`


@dataclass(frozen=True)
class Table:
    """Results of made-up sweeps of four widths; several groups are fitted with `--by`.

    With several steps it is a log, of which the last row of each run counts.
    """

    groups: int
    rates: int
    seeds: int
    options: tuple[str, ...] = ()
    steps: int = 1

    @property
    def rows(self) -> int:
        return self.groups * 4 * self.rates * self.seeds * self.steps

    def write(self, path: Path) -> None:
        draw = random.Random(1)
        with path.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["group", "width", "lr", "seed", "step", "loss"])
            for group in range(self.groups):
                exponent, curvature = draw.uniform(-1, 0), draw.uniform(0.008, 0.02)
                for doublings in range(4):
                    optimum = -8 + exponent * doublings + draw.uniform(-0.25, 0.25)
                    for rate in range(self.rates):
                        x = -8 + exponent * doublings + SPAN * (rate / (self.rates - 1) - 0.5)
                        for seed in range(self.seeds):
                            loss = 2.5 + curvature * (x - optimum) ** 2 + draw.gauss(0, NOISE)
                            run = [group, 64 * 2**doublings, 2**x, seed]
                            for step in range(self.steps, 0, -1):
                                rows.writerow([*run, 1 + self.steps - step, loss + step / 100])


@dataclass(frozen=True)
class Cost:
    """Wall time of a whole process and of its imports (s), and its peak memory (MB)."""

    wall: float
    imports: float
    memory: float

    @property
    def rest(self) -> float:
        return self.wall - self.imports


def measure(arguments: list[str], log: Path) -> Cost:
    command = [sys.executable, "-X", "importtime", "-m", "mutransfer_cli", *arguments]
    with log.open("w") as errors:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit("".join(line for line in log.open() if not line.startswith(IMPORT)))
    return Cost(wall, imported(log.read_text()), used.ru_maxrss * 1024 / 1e6)


def imported(log: str) -> float:
    """Sum the self times (s) in lines "import time: self [us] | cumulative | module"."""
    lines = [line for line in log.splitlines() if line.startswith(IMPORT)]
    return sum(int(line.removeprefix(IMPORT).split("|")[0]) for line in lines[1:]) / 1e6


def row(table: Table, repetitions: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "results.csv"
        table.write(path)
        arguments = ["fit-exponents", str(path), *table.options]
        arguments += ["--by", "group"] if table.groups > 1 else []
        arguments += ["--last", "step"] if table.steps > 1 else []
        costs = [measure(arguments, Path(folder) / "log") for _ in range(repetitions)]
    best = min(costs, key=lambda cost: cost.wall)
    memory = max(cost.memory for cost in costs)
    return (
        f"| {table.groups} | 4 x {table.rates} x {table.seeds} | {table.steps} | {table.rows} "
        f"| {' '.join(table.options)} | {best.wall:.2f} | {best.imports:.2f} | {best.rest:.2f} "
        f"| {memory:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--resamples", type=int, default=1000, help="0 omits the option")
    options = parser.parse_args()
    resamples = ("--resamples", str(options.resamples)) if options.resamples else ()
    print(
        "| groups | widths x rates x seeds | steps | rows | options | wall, s | imports, s "
        "| wall minus imports, s | peak memory, MB |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    tables = (
        Table(1, 25, 20, resamples),
        Table(400, 7, 1),
        Table(400, 13, 3),
        Table(1, 500, 50),
        Table(1, 25, 10, steps=100),
    )
    for table in tables:
        print(row(table, options.repetitions), flush=True)


if __name__ == "__main__":
    main()
