"""Batches are the same wherever the text lies, and so are the trials trained on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from mutransfer_cli.data.corpus import DeviceText, eval_offsets, train_offsets
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.batches import Resident, Streamed, batches
from mutransfer_cli.train.diagnosis import probe_batch
from mutransfer_cli.train.loop import TrialResult
from tests.conftest import CPU

Prepare = Callable[[dict[str, Any]], Sweep]
STEPS, WIDTH = 12, 16


@pytest.fixture(params=["tokens", "samples"])
def sweep(
    request: pytest.FixtureRequest,
    tiny: dict[str, Any],
    tiny_mlp: dict[str, Any],
    prepare: Prepare,
) -> Sweep:
    """Five trials, of which one diverges and makes room, so that the others are out of step."""
    spec = tiny if request.param == "tokens" else tiny_mlp
    spec["train"] |= {"steps": STEPS, "eval_batches": 3}
    spec["sweep"] = {"widths": [WIDTH], "axes": {"lr": [2**-8, 1e30, 2**-7, 2**-6, 2**-5]}}
    return prepare(spec)


def trained(sweep: Sweep, text: DeviceText) -> dict[str, TrialResult]:
    results: dict[str, TrialResult] = {}
    jobs = sweep.jobs(sweep.trials[WIDTH])
    sweep.trainer(WIDTH, text).run(jobs, 2, results.update, measured_steps=(0, 5, STEPS))
    return results


def test_a_trial_is_the_same_bit_for_bit_on_streamed_batches(sweep: Sweep) -> None:
    text = DeviceText.on(CPU, sweep.corpus)
    resident, streamed = trained(sweep, text), trained(sweep, replace(text, streamed=True))
    assert resident.keys() == streamed.keys()
    for trial, result in resident.items():
        other = streamed[trial]
        assert torch.equal(result.train_losses.nan_to_num(), other.train_losses.nan_to_num())
        if result.diverged_at is None:
            assert result.eval_loss == other.eval_loss
        assert result.measurements == other.measurements
    assert len({result.diverged_at for result in resident.values()}) == 2


def test_slots_out_of_step_get_batches_of_their_own(sweep: Sweep) -> None:
    text, train = DeviceText.on(CPU, sweep.corpus), sweep.protocol.train
    starts = torch.stack([train_offsets(sweep.corpus, train, seed) for seed in (0, 1, 2)])
    resident = batches(text, text.train, starts, train.context)
    streamed = batches(replace(text, streamed=True), text.train, starts, train.context)
    assert (type(resident), type(streamed)) == (Resident, Streamed)
    for steps in ([0, 0, 0], [3, 0, STEPS - 1]):
        index = torch.tensor(steps)
        streamed.load(steps)
        assert torch.equal(streamed.read(index), resident.read(index))
        for slot, step in enumerate(steps):
            alone = text.batch(text.train, starts[slot, step], train.context)
            assert torch.equal(resident.read(index)[slot], alone)


def test_a_captured_step_would_find_streamed_batches_in_one_place(sweep: Sweep) -> None:
    text = replace(DeviceText.on(CPU, sweep.corpus), streamed=True)
    slots = sweep.trainer(WIDTH, text).slots(sweep.jobs(sweep.trials[WIDTH]), 2)
    places = set()
    for _ in range(3):
        slots.step()
        slots.advance(1)
        slots.evaluate()
        for source in (slots.batches, slots.eval_batches):
            places.add(source.read(slots.position).data_ptr())
    assert len(places) == 2


def test_the_probe_is_read_where_the_text_lies(sweep: Sweep) -> None:
    text, train = DeviceText.on(CPU, sweep.corpus), sweep.protocol.train
    probe = probe_batch(replace(text, streamed=True), train)
    starts = eval_offsets(sweep.corpus, train).flatten()[: len(probe)]
    assert torch.equal(probe, text.batch(text.eval, starts, train.context))
