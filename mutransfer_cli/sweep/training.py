"""Trains trials of one width on one device, and makes records of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.diagnose.sizes import Measurement
from mutransfer_cli.spec.protocol import Protocol
from mutransfer_cli.spec.records import ThroughputRecord, TrialRecord
from mutransfer_cli.sweep.choice import Queue, Rung, Settings, choose_run, compilation
from mutransfer_cli.sweep.prepare import Sweep, Trial
from mutransfer_cli.sweep.store import Finished
from mutransfer_cli.train.checkpoint import Checkpoint
from mutransfer_cli.train.cost import Cost
from mutransfer_cli.train.device import device_name, matrix_peak
from mutransfer_cli.train.execution import Execution, remember
from mutransfer_cli.train.loop import Progress, Speed, TrialResult

Lines = Sequence[dict[str, object]]


@dataclass(frozen=True)
class Stepped:
    """The state of a queue in training."""

    queue: str
    progress: Progress


Send = Callable[[Stepped | Finished | ThroughputRecord | Rung | str], None]


def train_queue(
    sweep: Sweep,
    trials: Sequence[Trial],
    text: DeviceText,
    settings: Settings,
    limit: Rung,
    send: Send,
    check: Callable[[], None],
    checkpoint: Path,
    older: Sequence[Path] = (),
) -> None:
    """Trains trials of one width on the device of the text.

    Args:
        sweep: its trials of this width say how many there are in all.
        trials: those that have no finished record.
        limit: the most that may be tried.
        send: gets the rung that was chosen, then all that the training gives.
        check: called at every step; raises to stop there.
        checkpoint: file that those in training go on from, and are kept in.
        older: files of other groups that they may go on from.
    """
    kept = Checkpoint(checkpoint, sweep.protocol.hash, settings.checkpoint_every, send)
    queue = Queue(sweep, {trial.id: trial for trial in trials}, text)
    begun = kept.read(queue.trials, older)
    execution, slots = choose_run(queue, settings, begun, send, limit)
    send(Rung(execution.compiled, execution.captured, slots))
    diagnostics, steps = settings.diagnostics, sweep.protocol.train.steps
    measured_steps = diagnostics.measured_steps(steps) if diagnostics else ()
    Training(queue, execution, slots, send, check, kept).run(measured_steps)
    kept.remove()


class Training:
    """A queue in training: what is left of it, and where its records go."""

    def __init__(
        self,
        queue: Queue,
        execution: Execution,
        slots: int,
        send: Send,
        check: Callable[[], None],
        checkpoint: Checkpoint,
    ) -> None:
        self.queue, self.execution, self.slots = queue, execution, slots
        self.send, self.check, self.checkpoint = send, check, checkpoint
        self.left = dict(queue.trials)

    def run(self, measured_steps: Sequence[int]) -> None:
        speed = self.queue.trainer(self.execution).run(
            self.queue.sweep.jobs(self.left.values()),
            self.slots,
            self._finished,
            lambda progress: self.send(Stepped(self.queue.id, progress)),
            self.check,
            self.checkpoint,
            measured_steps,
        )
        self.send(self._throughput(speed))
        if self.execution.compiled:
            remember(compilation(self.queue, self.slots))

    def _finished(self, results: dict[str, TrialResult]) -> None:
        protocol, cost = self.queue.sweep.protocol, self.queue.cost
        outcomes = {key: _outcome(protocol, result, cost) for key, result in results.items()}
        curves: Lines = [
            {"trial": key, "step": steps, "train_loss": losses}
            for key, result in results.items()
            for steps, losses in [result.curve]
        ]
        diagnostics = [
            _diagnostics_line(key, measurement)
            for key, result in results.items()
            for measurement in result.measurements
        ]
        records = [self._trial_record(self.left.pop(key), found) for key, found in outcomes.items()]
        self.send(Finished(records, curves, diagnostics))
        self.check()

    def _trial_record(self, trial: Trial, outcome: dict[str, Any]) -> TrialRecord:
        how = {
            "group": self.queue.id,
            "group_size": self.slots,
            "device": device_name(self.queue.device),
            "compiled": self.execution.compiled,
        }
        return _trial_record(self.queue.sweep.protocol, trial, how, outcome)

    def _throughput(self, speed: Speed) -> ThroughputRecord:
        protocol, cost = self.queue.sweep.protocol, self.queue.cost
        trial_tokens = protocol.batch_tokens * protocol.train.steps
        tokens_per_second = speed.tokens / speed.seconds
        flops_per_second = tokens_per_second * cost.flops / trial_tokens
        peak = matrix_peak(self.queue.device, protocol.train.precision)
        return ThroughputRecord(
            width=self.queue.width,
            group=self.queue.id,
            group_size=self.slots,
            device=device_name(self.queue.device),
            compiled=self.execution.compiled,
            captured=self.execution.captured,
            tokens=speed.tokens,
            seconds=round(speed.seconds, 4),
            start_seconds=round(speed.start, 4),
            tokens_per_second=readable(tokens_per_second),
            trials_per_hour=readable(3600 * tokens_per_second / trial_tokens),
            flops_per_second=readable(flops_per_second),
            matrix_peak=readable(peak),
            of_peak=readable(flops_per_second / peak),
        )


def failed_record(protocol: Protocol, trial: Trial, group: str, reason: str) -> TrialRecord:
    """The record of a trial whose workers failed or were lost."""
    how = {"group": group, "group_size": 1, "device": "workers", "compiled": False}
    return _trial_record(protocol, trial, how, _failure(reason))


def _trial_record(
    protocol: Protocol, trial: Trial, how: dict[str, Any], outcome: dict[str, Any]
) -> TrialRecord:
    return TrialRecord.model_validate(
        {
            "trial": trial.id,
            "width": trial.width,
            "seed": trial.seed,
            "weight_decay": protocol.optimizer.weight_decay,
            **trial.axes,
            **how,
            **outcome,
        }
    )


def readable(measured: float) -> float:
    """To five digits: nothing is measured better."""
    return float(f"{measured:.5g}")


def _diagnostics_line(trial: str, measurement: Measurement) -> dict[str, object]:
    return {
        "trial": trial,
        "step": measurement.step,
        **{
            quantity: {name: None if x is None else readable(x) for name, x in values.items()}
            for quantity, values in measurement.values.items()
        },
    }


def _outcome(protocol: Protocol, result: TrialResult, cost: Cost) -> dict[str, Any]:
    """The result fields of a trial's record."""
    diverged_at = result.diverged_at
    finite = diverged_at is None
    steps = diverged_at or len(result.train_losses)
    return {
        "status": "ok" if finite else "diverged",
        "train_loss": result.final_train_loss if finite else None,
        "eval_loss": result.eval_loss if finite else None,
        "diverged_at": diverged_at,
        "steps": steps,
        "tokens": steps * protocol.batch_tokens,
        "flops": cost.flops * steps / protocol.train.steps,
        "seconds": round(result.seconds, 4),
    }


def _failure(reason: str) -> dict[str, Any]:
    nothing = {"train_loss": None, "eval_loss": None, "steps": 0, "tokens": 0, "flops": 0.0}
    return {"status": "failed", "seconds": 0.0, "error": reason, **nothing}
