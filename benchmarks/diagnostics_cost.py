"""Cost of diagnostics: time of whole trainings with the default diagnostics over those without.

Both train the same trials to the same losses and take turns on one machine in one run; the ratio
of each pair is kept. On a CPU it is the ratio of CPU seconds on one thread, which other work on
the machine hardly disturbs.

    python -m benchmarks.diagnostics_cost
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.spec.measurements import DiagnosticsSpec
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.strict import validated
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.device import device_name
from mutransfer_cli.train.execution import Execution
from mutransfer_cli.train.loop import Trainer, TrialResult
from mutransfer_cli.train.slots import Job

MOST = 1.05


@dataclass(frozen=True)
class Case:
    """A group of trials side by side: its size and the tokens per step of each trial."""

    width: int
    trials: int
    batch: int
    context: int

    def sweep(self, steps: int) -> Sweep:
        raw = {
            "schema": "mutransfer.sweep/1",
            "model": {"depth": 2, "head_size": 16},
            "data": {"source": "stdlib"},
            "parameterization": {"name": "mup", "base_width": 32},
            "train": {"steps": steps, "batch": self.batch, "context": self.context},
            "sweep": {
                "widths": [self.width],
                "axes": {"lr": [2.0 ** (-6 - k / 4) for k in range(self.trials)]},
            },
        }
        return Sweep.prepare(validated(SweepSpec, raw, "benchmark"), Path())


CASES = [
    *(Case(width, 8, 4, 32) for width in (16, 32, 64, 128)),
    *(Case(width, 8, 16, 64) for width in (32, 128)),
]


def seconds(trainer: Trainer, jobs: Sequence[Job], measured_steps: Sequence[int]) -> float:
    """Return the seconds that a whole training takes."""
    clock = time.process_time if trainer.ensemble.device.type == "cpu" else time.perf_counter
    results: dict[str, TrialResult] = {}
    started = clock()
    trainer.run(jobs, len(jobs), results.update, measured_steps=measured_steps)
    took = clock() - started
    for result in results.values():
        assert [m.step for m in result.measurements] == list(measured_steps)
    return took


def ratios(case: Case, steps: int, pairs: int, device: torch.device) -> list[float]:
    sweep = case.sweep(steps)
    text = DeviceText.on(device, sweep.corpus)
    execution = Execution(compiled=False, captured=device.type == "cuda")
    trainer, jobs = sweep.trainer(case.width, text, execution), sweep.jobs(sweep.trials[case.width])
    ways = {"on": DiagnosticsSpec().measured_steps(steps), "off": ()}
    found = []
    for pair in range(pairs):
        order = list(ways)[:: -1 if pair % 2 else 1]
        took = {way: seconds(trainer, jobs, ways[way]) for way in order}
        found.append(took["on"] / took["off"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=["cpu", "cuda"], default=default)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    print(f"{datetime.now(UTC):%Y-%m-%d}, torch {torch.__version__}, {device_name(device)}")
    print(
        f"{options.steps} steps; measured after {DiagnosticsSpec().measured_steps(options.steps)}"
    )
    print("| width | trials | tokens per step | median ratio | least | most |")
    print("|---|---|---|---|---|---|")
    medians = []
    for case in CASES:
        found = ratios(case, options.steps, options.pairs, device)
        medians.append(statistics.median(found))
        print(
            f"| {case.width} | {case.trials} | {case.batch}x{case.context} | {medians[-1]:.3f} "
            f"| {min(found):.3f} | {max(found):.3f} |",
            flush=True,
        )
    if max(medians) > MOST:
        raise SystemExit(f"measuring costs more than {MOST:g} allows")


if __name__ == "__main__":
    main()
