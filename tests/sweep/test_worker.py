"""A worker's attempt at a group: its messages, and how it ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.records import ThroughputRecord
from mutransfer_cli.sweep import worker
from mutransfer_cli.sweep.choice import TOP, Rung, Settings
from mutransfer_cli.sweep.messages import Assignment, Content, Done, Failed, Group, Message, Refused
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.store import Finished
from mutransfer_cli.sweep.worker import (
    Mail,
    Stopped,
    failed_record,
    fault_of,
    outcome,
    reason_of,
    train_group,
)
from mutransfer_cli.train.capture import AsksTheHost
from mutransfer_cli.train.loop import Progress, TrialResult

Prepare = Callable[[dict[str, Any]], Sweep]


@pytest.fixture
def sweep(tiny: dict[str, Any], prepare: Prepare) -> Sweep:
    """Two trials, one of which diverges."""
    tiny["sweep"] = {"widths": [16], "axes": {"lr": [2**-8, 1e30]}}
    return prepare(tiny)


@pytest.fixture
def assignment(sweep: Sweep, tmp_path: Path) -> Assignment:
    trials = tuple(sweep.trials[16])
    settings = Settings("off", False, float("inf"))
    return Assignment(Group(16, trials), 1, trials, tmp_path, (), "cpu", settings, TOP)


def attempt(assignment: Assignment, sweep: Sweep, **options: Any) -> list[Content]:
    messages: list[Message] = []
    train_group(assignment, replace(sweep, trials={}), messages.append, **options)
    assert {message.key for message in messages} == {assignment.key}
    return [message.content for message in messages]


def test_an_attempt_begins_with_a_sign_of_life_and_ends_with_its_end(
    sweep: Sweep, assignment: Assignment
) -> None:
    first, rung, *_, speed, last = contents = attempt(assignment, sweep)
    assert (first, last) == (None, Done())
    assert isinstance(rung, Rung)
    assert isinstance(speed, ThroughputRecord)
    records = {
        r.trial: r for found in contents if isinstance(found, Finished) for r in found.records
    }
    assert {t.id: records[t.id].status for t in assignment.trials} == dict(
        zip((t.id for t in assignment.trials), ("ok", "diverged"), strict=True)
    )
    assert {r.group for r in records.values()} == {assignment.queue}
    assert any(isinstance(content, Progress) for content in contents)


def test_an_error_ends_the_attempt_with_its_reason(
    sweep: Sweep, assignment: Assignment, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(assignment: Assignment, sweep: Sweep, mail: Mail) -> None:
        raise RuntimeError("the kernel is gone\nsecond line")

    monkeypatch.setattr(worker, "train", broken)
    assert attempt(assignment, sweep)[-1] == Failed(
        f"RuntimeError: the kernel is gone (test_worker.py:{broken.__code__.co_firstlineno + 1})",
        "rung",
        died=False,
    )


def test_the_reason_names_the_users_line_rather_than_torchs() -> None:
    layer = torch.nn.Linear(2, 2)
    with pytest.raises(RuntimeError) as raised:
        layer(torch.zeros(3))
    line = raised.traceback[0].lineno + 1
    assert "linear.py" in str(raised.traceback[-1].path)
    assert reason_of(raised.value).endswith(f" (test_worker.py:{line})")


def test_what_the_user_must_change_is_refused(sweep: Sweep, assignment: Assignment) -> None:
    tf32 = sweep.protocol.model_copy(
        update={"train": sweep.protocol.train.model_copy(update={"precision": "tf32"})}
    )
    *_, last = attempt(assignment, replace(sweep, protocol=tf32))
    assert isinstance(last, Refused)
    assert isinstance(last.error, InputError)
    assert "tf32 exists on CUDA only" in str(last.error)


def test_a_check_stops_an_attempt_without_an_end(sweep: Sweep, assignment: Assignment) -> None:
    def stop() -> None:
        raise Stopped

    messages: list[Message] = []
    with pytest.raises(Stopped):
        train_group(assignment, sweep, messages.append, stop)
    assert not isinstance(messages[-1].content, Done | Failed | Refused)


def test_a_long_silence_is_broken(assignment: Assignment, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Message] = []
    mail = Mail(assignment, sent.append, lambda: None)
    mail.send("begun")
    mail.check()
    assert [message.content for message in sent] == ["begun"]
    monkeypatch.setattr(worker, "SILENCE", -1.0)
    mail.check()
    assert [message.content for message in sent] == ["begun", None]


def test_a_diverged_trial_is_recorded_up_to_its_divergence(sweep: Sweep) -> None:
    result = TrialResult(torch.tensor([4.0, math.inf] + 8 * [math.nan]), math.nan, 0.123456)
    found = outcome(sweep.protocol, result, flops=1000.0)
    assert found == {
        "status": "diverged",
        "train_loss": None,
        "eval_loss": None,
        "diverged_at": 2,
        "steps": 2,
        "tokens": 2 * 2 * 16,
        "flops": 200.0,
        "seconds": 0.1235,
    }


def test_a_failed_trial_is_recorded_with_the_reason(sweep: Sweep) -> None:
    trial = sweep.trials[16][0]
    record = failed_record(sweep.protocol, trial, "g", "its node is gone")
    assert (record.status, record.error, record.steps) == ("failed", "its node is gone", 0)
    assert (record.trial, record.lr, record.eval_loss) == (trial.id, 2**-8, None)


def test_faults_are_told_apart() -> None:
    assert fault_of(torch.OutOfMemoryError("CUDA out of memory.")) == "memory"
    assert fault_of(AsksTheHost("a.py:1 waits")) == "capture"
    assert fault_of(ValueError("no")) == "rung"
    assert reason_of(AsksTheHost("a.py:1 waits")) == "a.py:1 waits", "it names its own line"
