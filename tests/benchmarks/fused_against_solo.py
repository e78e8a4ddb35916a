"""Times trials trained together against one at a time: `make bench`.

One at a time is what people run: an ordinary module, torch.optim.AdamW(fused=True), gradient
clipping, eager. Both sides take turns on one machine in one run, and the ratio of each pair is
kept, so that a machine whose speed drifts does not decide.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
import torch.nn.functional as F

from mutransfer_cli.data.corpus import DeviceText, gather, train_offsets
from mutransfer_cli.files.spec import SweepSpec
from mutransfer_cli.files.strict import validated
from mutransfer_cli.sweep.prepare import Sweep

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Row:
    """Milliseconds per trial-step, medians; speed-up is the median of the pairs' ratios."""

    width: int
    batch: int
    context: int
    trials: int
    solo_ms: float
    fused_ms: float
    speed_up: float


def prepare(width: int, batch: int, context: int, trials: int) -> Sweep:
    raw = {
        "schema": "mutransfer.sweep/1",
        "data": {"source": "stdlib"},
        "parameterization": {"name": "mup", "base_width": width},
        "train": {"steps": 1000, "batch": batch, "context": context, "warmup": 10},
        "sweep": {"widths": [width], "axes": {"lr": [2.0 ** (-10 - k / 8) for k in range(trials)]}},
    }
    return Sweep.prepare(validated(SweepSpec, raw, "benchmark"), Path())


class Solo:
    """One trial as an ordinary training loop."""

    def __init__(self, sweep: Sweep, width: int) -> None:
        self.train = sweep.protocol.train
        self.model = sweep.model(width)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)
        self.text = torch.from_numpy(sweep.corpus.train)
        self.offsets = train_offsets(sweep.corpus, self.train, seed=0)

    def run(self, first: int, steps: int) -> None:
        for step in range(first, first + steps):
            tokens = gather(self.text, self.offsets[step], self.train.context)
            logits = self.model(tokens[:, :-1])
            loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()


class Fused:
    """All trials in one step, as a sweep trains them."""

    def __init__(self, sweep: Sweep, width: int) -> None:
        trials = sweep.trials[width]
        self.train, self.count = sweep.protocol.train, len(trials)
        self.trainer = sweep.trainer(width, DeviceText.on(CPU, sweep.corpus))
        plans = [sweep.trial_plan(trial) for trial in trials]
        self.trials = self.trainer.ensemble.start(plans, [0] * self.count)
        self.offsets = train_offsets(sweep.corpus, self.train, seed=0)

    def run(self, first: int, steps: int) -> None:
        for step in range(first, first + steps):
            offsets = self.offsets[step].expand(self.count, -1)
            tokens = gather(self.trainer.text.train, offsets, self.train.context)
            self.trainer.ensemble.step(self.trials, tokens, torch.ones(self.count))


def measure(width: int, batch: int, context: int, trials: int, steps: int, pairs: int) -> Row:
    sweep = prepare(width, batch, context, trials)
    solo, fused = Solo(sweep, width), Fused(sweep, width)
    solo.run(0, 5)
    fused.run(0, 5)
    times: list[tuple[float, float]] = []
    for pair in range(pairs):
        first = 5 + pair * steps
        started = time.perf_counter()
        solo.run(first, steps)
        middle = time.perf_counter()
        fused.run(first, steps)
        times.append((middle - started, (time.perf_counter() - middle) / trials))
    return Row(
        width=width,
        batch=batch,
        context=context,
        trials=trials,
        solo_ms=round(1000 / steps * statistics.median(solo for solo, _ in times), 2),
        fused_ms=round(1000 / steps * statistics.median(fused for _, fused in times), 2),
        speed_up=round(statistics.median(solo / fused for solo, fused in times), 2),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 64, 128, 256])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20, help="per side and pair")
    parser.add_argument("--pairs", type=int, default=15)
    options = parser.parse_args()
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, torch {torch.__version__}, {platform.machine()} CPU, "
        f"{torch.get_num_threads()} threads, eager, fp32, {options.trials} trials"
    )
    print("| width | batch | one at a time, ms | fused, ms per trial | speed-up |")
    print("|---|---|---|---|---|")
    rows = []
    for width in options.widths:
        row = measure(
            width, options.batch, options.context, options.trials, options.steps, options.pairs
        )
        rows.append(asdict(row))
        print(
            f"| {row.width} | {row.batch} x {row.context} | {row.solo_ms} | {row.fused_ms} | "
            f"{row.speed_up} |",
            flush=True,
        )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
