"""Batches are the same wherever the text is stored, and so are the trials trained on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from mutransfer_cli.data.corpus import DeviceText, eval_offsets, train_offsets
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.diagnosis import probe_batch
from mutransfer_cli.train.execution import EAGER, Execution
from mutransfer_cli.train.loop import TrialResult
from mutransfer_cli.train.slots import Batches
from tests.conftest import CPU
from tests.train.replay import taped

Prepare = Callable[[dict[str, Any]], Sweep]
STEPS, WIDTH = 12, 16


@pytest.fixture(params=["tokens", "samples"])
def sweep(
    request: pytest.FixtureRequest,
    tiny: dict[str, Any],
    tiny_mlp: dict[str, Any],
    prepare: Prepare,
) -> Sweep:
    """Five trials, one of which diverges and frees its slot, so the others are out of step."""
    spec = tiny if request.param == "tokens" else tiny_mlp
    spec["train"] |= {"steps": STEPS, "eval_batches": 3}
    spec["sweep"] = {"widths": [WIDTH], "axes": {"lr": [2**-8, 1e30, 2**-7, 2**-6, 2**-5]}}
    return prepare(spec)


def trained(sweep: Sweep, streamed: bool, execution: Execution = EAGER) -> dict[str, TrialResult]:
    results: dict[str, TrialResult] = {}
    text = replace(DeviceText.on(CPU, sweep.corpus), streamed=streamed)
    trainer, jobs = sweep.trainer(WIDTH, text, execution), sweep.jobs(sweep.trials[WIDTH])
    trainer.run(jobs, 2, results.update, measured_steps=(0, 5, STEPS))
    return results


def assert_same(ones: dict[str, TrialResult], others: dict[str, TrialResult]) -> None:
    """Assert that all results are equal bit for bit."""
    assert ones.keys() == others.keys()
    for trial, one in ones.items():
        other = others[trial]
        assert torch.equal(one.train_losses.nan_to_num(), other.train_losses.nan_to_num())
        assert one.diverged_at is not None or one.eval_loss == other.eval_loss
        assert one.measurements == other.measurements
    assert len({one.diverged_at for one in ones.values()}) == 2


def test_a_trial_is_the_same_bit_for_bit_on_streamed_batches(sweep: Sweep) -> None:
    assert_same(trained(sweep, streamed=False), trained(sweep, streamed=True))


def test_so_it_is_where_the_step_is_captured(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every replay reads the same buffer, which batches are copied to."""
    monkeypatch.setattr("mutransfer_cli.train.slots.captured", taped)
    graph = Execution(compiled=False, captured=True)
    assert_same(trained(sweep, False, graph), trained(sweep, True, graph))


def test_slots_out_of_step_get_batches_of_their_own(sweep: Sweep) -> None:
    text, train = DeviceText.on(CPU, sweep.corpus), sweep.protocol.train
    starts = torch.stack([train_offsets(sweep.corpus, train, seed) for seed in (0, 1, 2)])
    resident = Batches(text, text.train, starts, train.context)
    streamed = Batches(replace(text, streamed=True), text.train, starts, train.context)
    assert resident.place is None
    assert streamed.place is not None
    for steps in ([0, 0, 0], [3, 0, STEPS - 1]):
        index = torch.tensor(steps)
        streamed.load(steps)
        assert torch.equal(streamed.read(index), resident.read(index))
        for slot, step in enumerate(steps):
            alone = text.batch(text.train, starts[slot, step], train.context)
            assert torch.equal(resident.read(index)[slot], alone)


def test_the_probe_is_read_where_the_text_lies(sweep: Sweep) -> None:
    text, train = DeviceText.on(CPU, sweep.corpus), sweep.protocol.train
    probe = probe_batch(replace(text, streamed=True), train)
    starts = eval_offsets(sweep.corpus, train).flatten()[: len(probe)]
    assert torch.equal(probe, text.batch(text.eval, starts, train.context))
