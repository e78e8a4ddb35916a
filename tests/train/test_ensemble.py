"""A trial in a group equals the trial alone; a group equals many plain training runs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mutransfer_cli.data.corpus import DeviceText, gather, train_offsets
from mutransfer_cli.errors import InputError
from mutransfer_cli.spec.protocol import Protocol
from mutransfer_cli.sweep.prepare import Sweep, Trial
from mutransfer_cli.train.ensemble import Ensemble
from mutransfer_cli.train.loop import Trainer
from mutransfer_cli.train.slots import schedule_tensor
from tests.conftest import CPU
from tests.train.trained import Trained, train_all

Prepare = Callable[[dict[str, Any]], Sweep]
STEPS, WIDTH = 50, 32
RATES = [2.0**k for k in range(-10, -2)]


@pytest.fixture
def sweep(tiny: dict[str, Any], prepare: Prepare) -> Sweep:
    """Eight rates at width 32 under muP with base width 16, two layers, 50 steps."""
    tiny["model"]["depth"] = 2
    tiny["train"] |= {"steps": STEPS, "batch": 4, "context": 64, "warmup": 5}
    tiny["optimizer"] = {"weight_decay": 0.1}
    tiny["sweep"] = {"widths": [WIDTH], "axes": {"lr": RATES}, "seeds": [0, 1]}
    return prepare(tiny)


def train(sweep: Sweep, trials: Sequence[Trial], compiled: bool = False) -> Trained:
    return train_all(sweep, trials, CPU, compiled)


def of_seed(sweep: Sweep, seed: int) -> list[Trial]:
    return [trial for trial in sweep.trials[WIDTH] if trial.seed == seed]


def test_a_trial_in_a_group_of_eight_equals_the_trial_alone_bit_for_bit(sweep: Sweep) -> None:
    trials = of_seed(sweep, 0)
    group = train(sweep, trials)
    assert group.train_losses.shape == (STEPS, 8)
    for index, trial in enumerate(trials):
        alone = train(sweep, [trial])
        assert torch.equal(group.train_losses[:, index], alone.train_losses[:, 0])
        assert torch.equal(group.eval_losses[index], alone.eval_losses[0])


OPTIMIZERS = ("sgd", "adam_atan2", "lion", "adafactor", "muon")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_so_it_does_under_every_optimizer(
    tiny: dict[str, Any], sweep: Sweep, prepare: Prepare, name: str
) -> None:
    tiny["optimizer"] = {"name": name, "weight_decay": 0.1}
    tiny["train"] |= {"steps": 12, "warmup": 2}
    sweep = prepare(tiny)
    trials = of_seed(sweep, 0)[:5]
    group, alone = train(sweep, trials), train(sweep, [trials[3]])
    assert torch.equal(group.train_losses[:, 3], alone.train_losses[:, 0])
    assert torch.equal(group.eval_losses[3], alone.eval_losses[0])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_update_can_be_compiled(
    tiny: dict[str, Any],
    sweep: Sweep,
    prepare: Prepare,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """The update is one graph without breaks and equals the update trial by trial."""
    compile_whole = partial(torch.compile, backend="eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", compile_whole)
    tiny["model"]["depth"] = 1
    tiny["optimizer"] = {"name": name, "weight_decay": 0.1}
    tiny["train"] |= {"steps": 3, "warmup": 1}
    sweep = prepare(tiny)
    trials = of_seed(sweep, 0)[:3]
    eager, compiled = train(sweep, trials), train(sweep, trials, compiled=True)
    torch.testing.assert_close(compiled.train_losses, eager.train_losses, rtol=1e-4, atol=1e-4)


def test_order_and_seeds_within_a_group_do_not_matter(sweep: Sweep) -> None:
    trials = of_seed(sweep, 0)[2:5] + of_seed(sweep, 1)[2:5]
    there, back = train(sweep, trials), train(sweep, trials[::-1])
    assert torch.equal(there.train_losses, back.train_losses.flip(1))
    assert not torch.equal(there.train_losses[:, :3], there.train_losses[:, 3:])


def plain_losses(sweep: Sweep, trial: Trial) -> Tensor:
    """Losses of the same trial in plain PyTorch: a module, torch.optim.AdamW, a scheduler.

    The plan's multipliers are folded into the forward pass by scaling the weights in place.
    """
    protocol: Protocol = sweep.protocol
    model, plan = sweep.model(trial.width), sweep.trial_plan(trial)
    ensemble = Ensemble(model, protocol.train, protocol.optimizer, CPU)
    state = ensemble.start([plan], [trial.seed])
    weights = {n: stack[0].detach().clone().requires_grad_() for n, stack in state.params.items()}
    optimizer = torch.optim.AdamW(
        [
            {"params": [weights[p.name]], "lr": p.lr, "weight_decay": p.weight_decay, "eps": p.eps}
            for p in plan
        ],
        betas=(0.9, 0.95),
    )
    factors = schedule_tensor(protocol.train).double().tolist()
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: ([*factors, 0.0])[step])
    offsets, text = (
        train_offsets(sweep.corpus, protocol.train, trial.seed),
        torch.from_numpy(sweep.corpus.train),
    )
    losses = []
    for step in range(protocol.train.steps):
        tokens = gather(text, offsets[step], protocol.train.context)
        values = {p.name: weights[p.name] * p.multiplier for p in plan}
        logits = torch.func.functional_call(model, values, (tokens[:, :-1],))
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if protocol.train.clip is not None:
            torch.nn.utils.clip_grad_norm_(weights.values(), protocol.train.clip)
        optimizer.step()
        scheduler.step()
        losses.append(loss.detach())
    return torch.stack(losses)


@pytest.mark.parametrize("clip", [1.0, None])
def test_a_group_equals_plain_modules_with_torch_adamw(
    sweep: Sweep, tiny: dict[str, Any], prepare: Prepare, clip: float | None
) -> None:
    """They agree to 1e-5 up to the optimal rate; beyond it training amplifies rounding."""
    tiny["train"]["clip"] = clip
    sweep = prepare(tiny)
    trials = of_seed(sweep, 0)
    group = train(sweep, trials)
    best = int(group.eval_losses.argmin())
    assert best >= 3, "the comparison needs rates below the optimum"
    for index, trial in enumerate(trials[: best + 1]):
        plain = plain_losses(sweep, trial)
        torch.testing.assert_close(group.train_losses[:, index], plain, rtol=1e-5, atol=1e-5)


def test_a_diverging_trial_leaves_its_neighbours_bit_for_bit(
    tiny: dict[str, Any], sweep: Sweep, prepare: Prepare
) -> None:
    calm = of_seed(sweep, 0)[:3]
    tiny["sweep"]["axes"]["lr"] = [*RATES[:3], 1e30]
    wild = of_seed(prepare(tiny), 0)
    with_wild, without = train(sweep, wild), train(sweep, calm)
    assert torch.equal(with_wild.train_losses[:, :3], without.train_losses)
    assert torch.equal(with_wild.eval_losses[:3], without.eval_losses)
    assert with_wild.diverged_at[3] is not None
    assert with_wild.diverged_at[:3] == [None] * 3


def test_no_operation_loops_over_trials(sweep: Sweep) -> None:
    """vmap's fallback, which runs an operation once per trial, is an error in this test."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        functorch: Any = torch._C._functorch
        functorch._set_vmap_fallback_enabled(False)
        try:
            assert train(sweep, of_seed(sweep, 0)[:2]).eval_losses.isfinite().all()
        finally:
            functorch._set_vmap_fallback_enabled(True)


def test_compiled_equals_eager(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trace is torch.compile's; its backend here is a quick one that generates no code."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    trials = of_seed(sweep, 0)[2:4]
    eager, compiled = train(sweep, trials), train(sweep, trials, compiled=True)
    torch.testing.assert_close(compiled.train_losses, eager.train_losses, rtol=1e-4, atol=1e-4)


def test_many_widths_are_all_compiled(
    tiny: dict[str, Any], prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.compile silently gives up after a number of graphs per function; here it fails."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    tiny["train"] |= {"steps": 2, "warmup": 1}
    tiny["sweep"] = {"widths": [16, 24, 32], "axes": {"lr": [0.01]}}
    many = prepare(tiny)
    with torch._dynamo.config.patch(recompile_limit=4, fail_on_recompile_limit_hit=True):
        for trials in many.trials.values():
            assert train(many, trials, compiled=True).eval_losses.isfinite().all()


def test_bf16_autocast_trains_close_to_fp32(
    tiny: dict[str, Any], sweep: Sweep, prepare: Prepare
) -> None:
    tiny["train"] |= {"precision": "bf16", "steps": 8}
    half = train(prepare(tiny), of_seed(prepare(tiny), 0)[2:4])
    tiny["train"]["precision"] = "fp32"
    full = train(prepare(tiny), of_seed(prepare(tiny), 0)[2:4])
    assert not torch.equal(half.train_losses, full.train_losses)
    torch.testing.assert_close(half.train_losses, full.train_losses, rtol=2e-2, atol=0)


def test_a_plan_of_another_model_is_refused(sweep: Sweep) -> None:
    trial = of_seed(sweep, 0)[0]
    trainer: Trainer = sweep.trainer(WIDTH, DeviceText.on(CPU, sweep.corpus))
    plan = sweep.trial_plan(trial)
    for wrong, named in ((plan[1:], plan[0].name), ((*plan, plan[0]), "planned twice")):
        with pytest.raises(InputError, match=f"hold different parameters: .*{named}"):
            trainer.ensemble.start([wrong], [0])


def test_same_seed_same_first_weights_at_every_rate(sweep: Sweep) -> None:
    trials = [*of_seed(sweep, 0)[:2], of_seed(sweep, 1)[0]]
    trainer: Trainer = sweep.trainer(WIDTH, DeviceText.on(CPU, sweep.corpus))
    plans = [sweep.trial_plan(trial) for trial in trials]
    state = trainer.ensemble.start(plans, [trial.seed for trial in trials])
    for planned in plans[0]:
        stack = state.params[planned.name].detach()
        assert torch.equal(stack[0], stack[1])
        assert not torch.equal(stack[0], stack[2])
        assert float(stack.std()) == pytest.approx(planned.init_std, rel=0.1)
