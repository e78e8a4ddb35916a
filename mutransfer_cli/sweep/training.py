"""Trains the trials of one width on one device, whoever asks for it."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from typing import Protocol as Interface

import torch

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.diagnose.measurement import Measurement
from mutransfer_cli.files.records import Protocol, ThroughputRecord, TrialRecord
from mutransfer_cli.sweep.choice import Queue, Settings, choose_run, compilation
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.store import Finished
from mutransfer_cli.sweep.trials import Trial
from mutransfer_cli.train.checkpoint import Checkpoint
from mutransfer_cli.train.compile_cost import remember
from mutransfer_cli.train.cost import Cost
from mutransfer_cli.train.device import device_name
from mutransfer_cli.train.execution import Execution
from mutransfer_cli.train.loop import Progress, Speed, TrialResult
from mutransfer_cli.train.memory import is_out_of_memory
from mutransfer_cli.train.peak import matrix_peak

Lines = Sequence[dict[str, object]]


class Sink(Interface):
    """Who gets what a training gives."""

    def stepped(self, width: int, group: str, progress: Progress) -> None: ...

    def finished(self, found: Finished) -> None: ...

    def measured(self, throughput: ThroughputRecord) -> None: ...

    def noted(self, sentence: str) -> None: ...


def train_queue(
    sweep: Sweep,
    trials: Sequence[Trial],
    text: DeviceText,
    settings: Settings,
    sink: Sink,
    check: Callable[[], None],
    checkpoint: Path,
) -> None:
    """Trains trials of one width on the device of the text.

    Args:
        sweep: its trials of this width say how many there are in all.
        trials: those that have no finished record.
        check: called at every step; raises to stop there.
        checkpoint: file that those in training go on from, and are kept in.
    """
    kept = Checkpoint(checkpoint, sweep.protocol.hash, settings.checkpoint_every, sink.noted)
    queue = Queue(sweep, {trial.id: trial for trial in trials}, text)
    execution, slots = choose_run(queue, settings, kept.read(queue.trials), sink.noted)
    diagnostics, steps = settings.diagnostics, sweep.protocol.train.steps
    measured_steps = diagnostics.measured_steps(steps) if diagnostics else ()
    Training(queue, execution, slots, sink, check, kept, measured_steps).run()
    kept.remove()


class Training:
    """A queue in training: what is left of it, and where its records go."""

    def __init__(
        self,
        queue: Queue,
        execution: Execution,
        slots: int,
        sink: Sink,
        check: Callable[[], None],
        checkpoint: Checkpoint,
        measured_steps: Sequence[int],
    ) -> None:
        self.queue, self.execution, self.slots = queue, execution, slots
        self.sink, self.check, self.checkpoint = sink, check, checkpoint
        self.measured_steps = measured_steps
        self.left = dict(queue.trials)

    def run(self) -> None:
        """Trains what is left; where memory runs out, again with half the slots."""
        while self.left:
            failure = self._run_until_out_of_memory()
            if failure and self.slots == 1:
                self._record(dict.fromkeys(self.left, _failure(failure)))
            elif failure:
                self._halve()

    def _run_until_out_of_memory(self) -> str:
        """What the device said; empty where memory sufficed. Nothing of the attempt outlives it."""
        width, group = self.queue.width, self.queue.id
        try:
            speed = self.queue.trainer(self.execution).run(
                self.queue.sweep.jobs(self.left.values()),
                self.slots,
                self._finished,
                lambda progress: self.sink.stepped(width, group, progress),
                self.check,
                self.checkpoint,
                self.measured_steps,
            )
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            return str(error).splitlines()[0]
        self.sink.measured(self._throughput(speed))
        if self.execution.compiled:
            remember(compilation(self.queue, self.slots))
        return ""

    def _halve(self) -> None:
        """Half the slots, and what the device held (graph, pool, compiled functions) free again."""
        gc.collect()
        if self.queue.device.type == "cuda":
            torch.cuda.empty_cache()
        self.sink.noted(
            f"width {self.queue.width}: out of memory with {self.slots} trials side by side; going "
            f"on with {self.slots // 2}"
        )
        self.slots //= 2
        self.checkpoint.read(self.left)

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
        self._record(outcomes, curves, diagnostics)

    def _record(
        self, outcomes: Mapping[str, dict[str, Any]], curves: Lines = (), diagnostics: Lines = ()
    ) -> None:
        records = [self._trial_record(self.left.pop(key), found) for key, found in outcomes.items()]
        self.sink.finished(Finished(records, curves, diagnostics))
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
    """Of a trial whose workers were lost, wherever they were."""
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
    """What became of a trial."""
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
