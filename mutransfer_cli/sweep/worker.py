"""The worker: trains a group of trials in whatever process, and reports in messages."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.diagnose.sizes import Measurement
from mutransfer_cli.errors import MutransferError
from mutransfer_cli.proxies.factory import first_line, user_line
from mutransfer_cli.spec.protocol import Protocol
from mutransfer_cli.spec.records import ThroughputRecord, TrialRecord
from mutransfer_cli.sweep.choice import Fault, Queue, Rung, Settings, choose_run, compilation
from mutransfer_cli.sweep.messages import Assignment, Content, Done, Failed, Message, Refused
from mutransfer_cli.sweep.prepare import Sweep, Trial
from mutransfer_cli.sweep.store import Finished
from mutransfer_cli.train.capture import AsksTheHost
from mutransfer_cli.train.checkpoint import Checkpoint
from mutransfer_cli.train.device import choose_device, device_name, is_out_of_memory, matrix_peak
from mutransfer_cli.train.execution import remember
from mutransfer_cli.train.loop import Check, Speed, TrialResult

SILENCE = 5.0  # seconds after which a worker that is training sends a sign of life


class Stopped(BaseException):
    """Raised between two steps to end a training that its driver no longer wants.

    Holds the driver's error if driver and worker are one process.
    """


class Mail:
    """Sends the messages of an attempt to its driver."""

    def __init__(
        self, assignment: Assignment, post: Callable[[Message], None], check: Check
    ) -> None:
        self._assignment, self._post, self._check = assignment, post, check
        self._sent = 0.0

    def send(self, content: Content) -> None:
        self._post(Message(*self._assignment.key, content))
        self._sent = time.monotonic()

    def check(self) -> None:
        """Stop the training if asked to; otherwise send a sign of life after a long silence."""
        self._check()
        if time.monotonic() - self._sent > SILENCE:
            self.send(None)


def train_group(
    assignment: Assignment,
    sweep: Sweep,
    post: Callable[[Message], None],
    check: Check = lambda: None,
) -> None:
    """Make an attempt at a group; the last message says how it ended, unless `check` stopped it.

    Args:
        sweep: with or without its trials, which come with the group.
    """
    mail = Mail(assignment, post, check)
    mail.send(None)  # it has started
    try:
        train(assignment, sweep, mail)
    except MutransferError as error:
        mail.send(Refused(error))
    except Exception as error:
        mail.send(Failed(reason_of(error), fault_of(error), died=False))
    else:
        mail.send(Done())


def train(assignment: Assignment, sweep: Sweep, mail: Mail) -> None:
    group, settings = assignment.group, assignment.settings
    precision = sweep.protocol.train.precision
    device = choose_device(assignment.kind, precision, settings.deterministic)
    if device.type == "cpu":
        torch.set_num_threads(1)  # results may depend on the number of threads
    with warnings.catch_warnings():
        # memory that processes share is read-only, and nothing writes to a text
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        text = DeviceText.on(device, sweep.corpus)
    mine = replace(sweep, trials={group.width: list(group.trials)})
    queue = Queue(mine, {trial.id: trial for trial in assignment.trials}, text)
    path = assignment.checkpoint
    older = [path.with_name(name) for name in assignment.older]
    train_queue(queue, settings, assignment.limit, mail.send, mail.check, path, older)


def train_queue(
    queue: Queue,
    settings: Settings,
    limit: Rung,
    send: Callable[[Content], None],
    check: Check,
    path: Path,
    older: Sequence[Path] = (),
) -> None:
    """Train a queue of trials.

    Args:
        send: receives the chosen rung, and then the output of the training.
        path: checkpoint file of the trials in training.
        older: files of other groups that may hold some of them.
    """
    sweep = queue.sweep
    checkpoint = Checkpoint(path, sweep.protocol.hash, settings.checkpoint_every, send)
    begun = checkpoint.read(queue.trials, older)
    execution, slots = choose_run(queue, settings, begun, send, limit)
    send(Rung(execution.compiled, execution.captured, slots))
    how = {
        "group": queue.id,
        "group_size": slots,
        "device": device_name(queue.device),
        "compiled": execution.compiled,
    }

    def finished(results: dict[str, TrialResult]) -> None:
        send(finished_trials(queue, how, results))
        check()

    diagnostics, steps = settings.diagnostics, sweep.protocol.train.steps
    measured_steps = diagnostics.measured_steps(steps) if diagnostics else ()
    jobs = sweep.jobs(queue.trials.values())
    trainer = queue.trainer(execution)
    speed = trainer.run(jobs, slots, finished, send, check, checkpoint, measured_steps)
    send(throughput(queue, how | {"captured": execution.captured}, speed))
    if execution.compiled:
        remember(compilation(queue, slots))
    checkpoint.remove()


def finished_trials(queue: Queue, how: dict[str, Any], results: dict[str, TrialResult]) -> Finished:
    """Records, curves and diagnostics of trials that ended together.

    Args:
        how: the fields of a record that say how the trials were run.
    """
    protocol, flops = queue.sweep.protocol, queue.cost.flops
    return Finished(
        [
            trial_record(protocol, queue.trials[key], how, outcome(protocol, result, flops))
            for key, result in results.items()
        ],
        [
            {"trial": key, "step": steps, "train_loss": losses}
            for key, result in results.items()
            for steps, losses in [result.curve]
        ],
        [
            diagnostics_line(key, measurement)
            for key, result in results.items()
            for measurement in result.measurements
        ],
    )


def trial_record(
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


def outcome(protocol: Protocol, result: TrialResult, flops: float) -> dict[str, Any]:
    """The result fields of a trial's record, given the FLOPs of a whole trial."""
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
        "flops": flops * steps / protocol.train.steps,
        "seconds": round(result.seconds, 4),
    }


def failed_record(protocol: Protocol, trial: Trial, group: str, reason: str) -> TrialRecord:
    """The record of a trial whose workers failed or were lost."""
    how = {"group": group, "group_size": 1, "device": "workers", "compiled": False}
    nothing = {"train_loss": None, "eval_loss": None, "steps": 0, "tokens": 0, "flops": 0.0}
    failure = {"status": "failed", "seconds": 0.0, "error": reason, **nothing}
    return trial_record(protocol, trial, how, failure)


def diagnostics_line(trial: str, measurement: Measurement) -> dict[str, object]:
    return {
        "trial": trial,
        "step": measurement.step,
        **{
            quantity: {name: None if x is None else readable(x) for name, x in values.items()}
            for quantity, values in measurement.values.items()
        },
    }


def throughput(queue: Queue, how: dict[str, Any], speed: Speed) -> ThroughputRecord:
    protocol = queue.sweep.protocol
    trial_tokens = protocol.batch_tokens * protocol.train.steps
    tokens_per_second = speed.tokens / speed.seconds
    flops_per_second = tokens_per_second * queue.cost.flops / trial_tokens
    peak = matrix_peak(queue.device, protocol.train.precision)
    return ThroughputRecord(
        **how,
        width=queue.width,
        tokens=speed.tokens,
        seconds=round(speed.seconds, 4),
        start_seconds=round(speed.start, 4),
        tokens_per_second=readable(tokens_per_second),
        trials_per_hour=readable(3600 * tokens_per_second / trial_tokens),
        flops_per_second=readable(flops_per_second),
        matrix_peak=readable(peak),
        of_peak=readable(flops_per_second / peak),
    )


def readable(measured: float) -> float:
    """The value to five digits; no measurement is more exact."""
    return float(f"{measured:.5g}")


def fault_of(error: Exception) -> Fault:
    if is_out_of_memory(error):
        return "memory"
    return "capture" if isinstance(error, AsksTheHost) else "rung"


def reason_of(error: Exception) -> str:
    """The error's first line, and the line of the user's code, or else of ours, it comes from."""
    message = first_line(error)
    if isinstance(error, AsksTheHost):
        return message
    last = traceback.extract_tb(error.__traceback__)[-1]
    line = user_line(error) or f"{Path(last.filename).name}:{last.lineno}"
    return f"{type(error).__name__}: {message} ({line})"
