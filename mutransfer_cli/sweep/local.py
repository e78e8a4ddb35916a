"""Runs a sweep on this machine: group by group, each recorded as soon as it is finished."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal
from typing import Protocol as Interface

import torch

from mutransfer_cli.data.text import DeviceText
from mutransfer_cli.files.records import Protocol, TrialRecord
from mutransfer_cli.sweep.prepare import Sweep, device_name
from mutransfer_cli.sweep.store import RecordStore
from mutransfer_cli.sweep.trials import Group, Trial, pending_groups
from mutransfer_cli.train.cost import Cost, group_size, trial_cost
from mutransfer_cli.train.loop import GroupResult, GroupTrainer, Progress

CompileMode = Literal["auto", "on", "off"]


class Observer(Interface):
    """Who watches a sweep."""

    def stepped(self, width: int, progress: Progress) -> None: ...

    def recorded(self, width: int, records: Sequence[TrialRecord]) -> None: ...


def run(
    sweep: Sweep,
    store: RecordStore,
    device: torch.device,
    compile_mode: CompileMode,
    observer: Observer,
    emit: Callable[[Sequence[TrialRecord]], None],
    check: Callable[[], None],
) -> None:
    """Trains every trial that has no finished record.

    Args:
        emit: gets each group's new records.
        check: called at every step and after every group; raises to stop the sweep there.
    """
    compiled = compile_mode == "on" or (compile_mode == "auto" and device.type == "cuda")
    # what does not fit is refused before anything is trained
    sizes = {width: group_size(sweep.protocol, width, device) for width in sweep.trials}
    text = DeviceText.on(device, sweep.corpus)
    for width, trials in sweep.trials.items():
        groups = pending_groups(trials, store.trials, sizes[width])
        if not groups:
            continue
        trainer = sweep.trainer(width, text, compiled)
        for group in groups:
            records, curves = _train(sweep, trainer, group, observer, check)
            store.append(records, curves)
            emit(records)
            observer.recorded(width, records)
            check()


def _train(
    sweep: Sweep,
    trainer: GroupTrainer,
    group: Group,
    observer: Observer,
    check: Callable[[], None],
) -> tuple[list[TrialRecord], list[dict[str, object]]]:
    """The new records and curves of a group."""
    cost = trial_cost(sweep.protocol, group.width)
    plans = [sweep.trial_plan(trial) for trial in group.trials]
    try:
        result = trainer.run(
            plans,
            [trial.seed for trial in group.trials],
            lambda progress: observer.stepped(group.width, progress),
            check,
        )
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        reason = str(error).splitlines()[0]
        missing = [trial for trial in group.trials if trial.id in group.missing]
        return [
            _record(sweep.protocol, trial, group, trainer, _failure(reason)) for trial in missing
        ], []
    records: list[TrialRecord] = []
    curves: list[dict[str, object]] = []
    for index, trial in enumerate(group.trials):
        if trial.id in group.missing:
            outcome = _outcome(sweep.protocol, result, index, cost)
            records.append(_record(sweep.protocol, trial, group, trainer, outcome))
            steps, losses = result.curve(index)
            curves.append({"trial": trial.id, "step": steps, "train_loss": losses})
    return records, curves


def _record(
    protocol: Protocol, trial: Trial, group: Group, trainer: GroupTrainer, outcome: dict[str, Any]
) -> TrialRecord:
    return TrialRecord.model_validate(
        {
            "trial": trial.id,
            "width": trial.width,
            "seed": trial.seed,
            "weight_decay": protocol.optimizer.weight_decay,
            **trial.axes,
            "group": group.id,
            "group_size": len(group.trials),
            "device": device_name(trainer.ensemble.device),
            "compiled": trainer.ensemble.compiled,
            **outcome,
        }
    )


def _outcome(protocol: Protocol, result: GroupResult, index: int, cost: Cost) -> dict[str, Any]:
    """What became of the trial at `index` of a group."""
    diverged_at = result.diverged_at(index)
    finite = diverged_at is None
    steps = diverged_at or len(result.train_losses)
    return {
        "status": "ok" if finite else "diverged",
        "train_loss": result.final_train_loss(index) if finite else None,
        "eval_loss": float(result.eval_losses[index]) if finite else None,
        "diverged_at": diverged_at,
        "steps": steps,
        "tokens": steps * protocol.batch_tokens,
        "flops": cost.flops * steps / protocol.train.steps,
        "seconds": round(result.seconds / result.train_losses.shape[1], 4),
    }


def _failure(reason: str) -> dict[str, Any]:
    nothing = {"train_loss": None, "eval_loss": None, "steps": 0, "tokens": 0, "flops": 0.0}
    return {"status": "failed", "seconds": 0.0, "error": reason, **nothing}


def _is_out_of_memory(error: RuntimeError) -> bool:
    # the CPU allocator raises a plain RuntimeError
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
