"""The choice of how to run the trials of a width; limits of a model change nothing but speed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.proxies.transformer import Transformer
from mutransfer_cli.spec.records import ThroughputRecord, TrialRecord
from mutransfer_cli.sweep.choice import TOP, Queue, Rung, Settings, choose_run, price
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.sweep.store import Finished
from mutransfer_cli.sweep.worker import train_queue
from mutransfer_cli.train.checkpoint import Shape
from mutransfer_cli.train.execution import EAGER, Execution
from tests.conftest import CPU

Prepare = Callable[[dict[str, Any]], Sweep]
SETTINGS = Settings("auto", deterministic=False, checkpoint_every=float("inf"))
COMPILED = Execution(compiled=True, captured=False)


class Collected:
    """Collects the output of a training run."""

    def __init__(self) -> None:
        self.records: list[TrialRecord] = []
        self.diagnostics: list[dict[str, object]] = []
        self.throughput: list[ThroughputRecord] = []
        self.said: list[str] = []

    def take(self, content: object) -> None:
        match content:
            case Finished(records, _, diagnostics):
                self.records += records
                self.diagnostics += diagnostics
            case ThroughputRecord():
                self.throughput.append(content)
            case Rung():
                self.rung = content
            case str():
                self.said.append(content)

    @property
    def losses(self) -> dict[str, float | None]:
        return {record.trial: record.eval_loss for record in self.records}


class Branching(Transformer):
    def before_readout(self, tokens_BS: Tensor) -> Tensor:
        hidden = super().before_readout(tokens_BS)
        return hidden if hidden.sum() != 0.125 else -hidden


class BranchingSweep(Sweep):
    def model(self, width: int) -> nn.Module:
        model = super().model(width)
        model.__class__ = Branching
        return model


def train(sweep: Sweep, tmp_path: Path, settings: Settings = SETTINGS) -> Collected:
    collected, path = Collected(), tmp_path / "checkpoint.pt"
    train_queue(queue(sweep), settings, TOP, collected.take, lambda: None, path)
    return collected


def queue(sweep: Sweep) -> Queue:
    trials = {trial.id: trial for trial in sweep.trials[16]}
    return Queue(sweep, trials, DeviceText.on(CPU, sweep.corpus))


def refuse(sentence: str) -> None:
    raise AssertionError(sentence)


def test_a_model_that_cannot_be_batched_runs_one_at_a_time_and_says_so(
    tiny: dict[str, Any], prepare: Prepare, tmp_path: Path
) -> None:
    sweep = prepare(tiny)
    branching = BranchingSweep(**{f.name: getattr(sweep, f.name) for f in fields(sweep)})
    collected = train(branching, tmp_path)
    (said,) = collected.said
    assert said.startswith("width 16: the model cannot be batched (it branches on values at test_")
    assert said.endswith("): one trial after the other")
    assert {record.group_size for record in collected.records} == {1}
    assert collected.losses == pytest.approx(train(sweep, tmp_path).losses, rel=1e-5)
    assert {priced.group.slots for priced in price(branching, {}, CPU)} == {1}


def test_the_user_is_told_why_data_are_streamed(tiny: dict[str, Any], prepare: Prepare) -> None:
    resident, said = queue(prepare(tiny)), list[str]()
    streamed = replace(resident, text=replace(resident.text, streamed=True, note="too large"))
    for one in (resident, streamed):
        choose_run(one, SETTINGS, None, said.append)
    assert said == ["width 16: too large"]


def test_on_a_cpu_auto_is_eager(tiny: dict[str, Any], prepare: Prepare) -> None:
    """Compiled code rounds differently, so a resumed sweep would differ from one without a stop."""
    tiny["train"]["steps"] = 1_000_000
    execution, slots = choose_run(queue(prepare(tiny)), SETTINGS, None, refuse)
    assert execution == EAGER
    assert 1 <= slots <= 7


def test_who_goes_on_keeps_the_shape(tiny: dict[str, Any], prepare: Prepare) -> None:
    begun = Shape(slots=3, compiled=True)
    chosen = choose_run(queue(prepare(tiny)), replace(SETTINGS, compile_mode="off"), begun, refuse)
    assert chosen == (COMPILED, 3)


@pytest.mark.parametrize(("mode", "execution"), [("on", COMPILED), ("off", EAGER)])
def test_deterministic_runs_are_chosen_without_a_clock(
    tiny: dict[str, Any],
    prepare: Prepare,
    monkeypatch: pytest.MonkeyPatch,
    mode: Any,
    execution: Execution,
) -> None:
    tiny["train"]["steps"] = 1_000_000
    monkeypatch.setattr("mutransfer_cli.sweep.choice.fastest", refuse)
    settings = replace(SETTINGS, deterministic=True, compile_mode=mode)
    assert choose_run(queue(prepare(tiny)), settings, None, refuse) == (execution, 7)


@pytest.mark.parametrize(
    ("limit", "execution", "slots"),
    [
        (Rung(compiled=True, captured=True, slots=3), COMPILED, 3),
        (Rung(compiled=False, captured=True, slots=3), EAGER, 3),
    ],
)
def test_no_more_is_tried_than_the_limit_allows(
    tiny: dict[str, Any], prepare: Prepare, limit: Rung, execution: Execution, slots: int
) -> None:
    settings = replace(SETTINGS, compile_mode="on", deterministic=True)
    for begun in (None, Shape(slots=7, compiled=True)):
        chosen = choose_run(queue(prepare(tiny)), settings, begun, refuse, limit)
        assert chosen == (execution, slots)


def test_the_rung_is_told_before_the_first_step(
    tiny: dict[str, Any], prepare: Prepare, tmp_path: Path
) -> None:
    collected = train(prepare(tiny), tmp_path)
    (speed,) = collected.throughput
    assert collected.rung == Rung(speed.compiled, speed.captured, speed.group_size)
