"""Runs a sweep on this machine: width by width, each trial recorded as soon as it is finished."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from typing import Protocol as Interface

import torch

from mutransfer_cli.data.text import DeviceText
from mutransfer_cli.files.records import Protocol, TrialRecord
from mutransfer_cli.files.yaml_io import content_hash
from mutransfer_cli.sweep.prepare import Sweep, device_name
from mutransfer_cli.sweep.store import RecordStore
from mutransfer_cli.sweep.trials import Trial, pending, slot_count
from mutransfer_cli.train.checkpoint import Checkpoint
from mutransfer_cli.train.cost import Cost, group_size, trial_cost
from mutransfer_cli.train.loop import Progress, Trainer, TrialResult

CompileMode = Literal["auto", "on", "off"]


class Observer(Interface):
    """Who watches a sweep."""

    def stepped(self, width: int, progress: Progress) -> None: ...

    def recorded(self, width: int, records: Sequence[TrialRecord]) -> None: ...

    def noted(self, sentence: str) -> None: ...


def run(
    sweep: Sweep,
    store: RecordStore,
    device: torch.device,
    compile_mode: CompileMode,
    observer: Observer,
    emit: Callable[[Sequence[TrialRecord]], None],
    check: Callable[[], None],
    checkpoint_every: float,
) -> None:
    """Trains every trial that has no finished record.

    Args:
        emit: gets the new records of trials that end together.
        check: called at every step and after every record; raises to stop the sweep there.
        checkpoint_every: seconds.
    """
    compiled = compile_mode == "on" or (compile_mode == "auto" and device.type == "cuda")
    # what does not fit is refused before anything is trained
    sizes = {width: group_size(sweep.protocol, width, device) for width in sweep.trials}
    text = DeviceText.on(device, sweep.corpus)
    for width, trials in sweep.trials.items():
        rest = pending(trials, store.trials)
        if not rest:
            continue
        # on CUDA results depend on the shape in the last digits: it is that of all trials
        together = trials if device.type == "cuda" else rest
        queue = Queue.of(sweep, rest, slot_count(len(together), sizes[width]))
        path = store.path.with_name(f"checkpoint-{width}.pt")
        checkpoint = Checkpoint(path, sweep.protocol.hash, checkpoint_every, observer.noted)
        training = Training(queue, store, observer, emit, check)
        training.run(partial(sweep.trainer, width, text, compiled), checkpoint)
        checkpoint.remove()


@dataclass(frozen=True)
class Queue:
    """Trials of one width that pass through the same slots."""

    sweep: Sweep
    trials: Mapping[str, Trial]
    slots: int
    cost: Cost

    @classmethod
    def of(cls, sweep: Sweep, trials: Sequence[Trial], slots: int) -> Queue:
        cost = trial_cost(sweep.protocol, trials[0].width)
        return cls(sweep, {trial.id: trial for trial in trials}, slots, cost)

    @property
    def id(self) -> str:
        return content_hash(list(self.trials), length=12)

    @property
    def width(self) -> int:
        return next(iter(self.trials.values())).width


class Training:
    """A queue in training: what is left of it, and where its records go."""

    def __init__(
        self,
        queue: Queue,
        store: RecordStore,
        observer: Observer,
        emit: Callable[[Sequence[TrialRecord]], None],
        check: Callable[[], None],
    ) -> None:
        self.queue, self.store, self.observer = queue, store, observer
        self.emit, self.check = emit, check
        self.left, self.slots = dict(queue.trials), queue.slots

    def run(self, build: Callable[[], Trainer], checkpoint: Checkpoint) -> None:
        """Trains what is left; where memory runs out, again with half the slots."""
        width = self.queue.width
        while self.left:
            trainer = build()
            try:
                trainer.run(
                    self.queue.sweep.jobs(self.left.values()),
                    self.slots,
                    partial(self._finished, trainer),
                    lambda progress: self.observer.stepped(width, progress),
                    self.check,
                    checkpoint,
                )
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
                reason = str(error).splitlines()[0]
                if self.slots == 1:
                    self._record(dict.fromkeys(self.left, _failure(reason)), [], trainer)
                    return
                del trainer
                self._halve()

    def _halve(self) -> None:
        """Half the slots, and what the device held is free again."""
        gc.collect()
        torch.cuda.empty_cache()
        self.observer.noted(
            f"width {self.queue.width}: out of memory with {self.slots} trials side by side; going "
            f"on with {self.slots // 2}"
        )
        self.slots //= 2

    def _finished(self, trainer: Trainer, results: dict[str, TrialResult]) -> None:
        protocol, cost = self.queue.sweep.protocol, self.queue.cost
        outcomes = {key: _outcome(protocol, result, cost) for key, result in results.items()}
        curves: list[dict[str, object]] = [
            {"trial": key, "step": steps, "train_loss": losses}
            for key, result in results.items()
            for steps, losses in [result.curve]
        ]
        self._record(outcomes, curves, trainer)

    def _record(
        self,
        outcomes: Mapping[str, dict[str, Any]],
        curves: list[dict[str, object]],
        trainer: Trainer,
    ) -> None:
        records = [
            _record(self.queue, self.left.pop(key), self.slots, trainer, outcome)
            for key, outcome in outcomes.items()
        ]
        self.store.append(records, curves)
        self.emit(records)
        self.observer.recorded(self.queue.width, records)
        self.check()


def _record(
    queue: Queue, trial: Trial, slots: int, trainer: Trainer, outcome: dict[str, Any]
) -> TrialRecord:
    return TrialRecord.model_validate(
        {
            "trial": trial.id,
            "width": trial.width,
            "seed": trial.seed,
            "weight_decay": queue.sweep.protocol.optimizer.weight_decay,
            **trial.axes,
            "group": queue.id,
            "group_size": slots,
            "device": device_name(trainer.ensemble.device),
            "compiled": trainer.ensemble.compiled,
            **outcome,
        }
    )


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


def _is_out_of_memory(error: RuntimeError) -> bool:
    # the CPU allocator raises a plain RuntimeError
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
