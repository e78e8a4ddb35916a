"""A deterministic run on CUDA, whole or interrupted and resumed, in its own process."""

from __future__ import annotations

from pathlib import Path

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.strict import validated
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.checkpoint import Checkpoint
from mutransfer_cli.train.device import choose_device
from mutransfer_cli.train.execution import Execution
from mutransfer_cli.train.loop import TrialResult

SPEC = {
    "schema": "mutransfer.sweep/1",
    "data": {"source": "stdlib"},
    "parameterization": {"name": "mup", "base_width": 32},
    "train": {"steps": 20, "batch": 4, "context": 64, "warmup": 2, "precision": "bf16"},
    "sweep": {"widths": [64], "axes": {"lr": [2**-8, 2**-7, 2**-6]}},
}


class Cut(Exception):
    pass


def train(folder: Path, cut: int) -> list[list[float]]:
    """All losses of a run that a new trainer resumes after `cut` steps; 0 is an uncut run."""
    sweep = Sweep.prepare(validated(SweepSpec, SPEC, "spec"), folder)
    device = choose_device("cuda", "bf16", deterministic=True)
    text, jobs = DeviceText.on(device, sweep.corpus), sweep.jobs(sweep.trials[64])
    execution = Execution(compiled=False, captured=True)
    results: dict[str, TrialResult] = {}
    steps = 0

    def check() -> None:
        nonlocal steps
        if steps == cut:
            raise Cut
        steps += 1

    for stop in (check, lambda: None) if cut else (lambda: None,):
        checkpoint = Checkpoint(folder / f"{cut}.pt", "protocol", 1e9, print)
        checkpoint.read({job.id for job in jobs})
        trainer = sweep.trainer(64, text, execution)
        try:
            trainer.run(jobs, 3, results.update, check=stop, checkpoint=checkpoint)
        except Cut:
            assert not results
    return [[*results[job.id].train_losses.tolist(), results[job.id].eval_loss] for job in jobs]
