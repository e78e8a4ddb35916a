"""Multilayer perceptrons on samples use the same engine as models of tokens."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from mutransfer_cli.data.corpus import DeviceText, train_offsets
from mutransfer_cli.sweep.prepare import Sweep, Trial
from mutransfer_cli.train.cost import mlp_cost
from mutransfer_cli.train.ensemble import Ensemble
from mutransfer_cli.train.loop import train_steps
from mutransfer_cli.train.slots import schedule_tensor
from tests.conftest import CPU
from tests.train.trained import train_all

Prepare = Callable[[dict[str, Any]], Sweep]
WIDTH, STEPS = 32, 30


@pytest.fixture
def raw(tiny_mlp: dict[str, Any]) -> dict[str, Any]:
    tiny_mlp["train"] |= {"steps": STEPS, "warmup": 3, "batch": 16}
    tiny_mlp["sweep"]["widths"] = [WIDTH]
    return tiny_mlp


@pytest.mark.parametrize(
    ("model", "optimizer"),
    [
        ({}, {"name": "adamw", "weight_decay": 0.1}),
        ({"depth": 0, "activation": "gelu"}, {"name": "adam_atan2"}),
        ({"depth": 2, "activation": "tanh"}, {"name": "sgd"}),
        ({"depth": 2, "norm": "rms"}, {"name": "muon"}),
    ],
)
def test_a_trial_in_a_group_equals_the_trial_alone_bit_for_bit(
    raw: dict[str, Any], prepare: Prepare, model: dict[str, Any], optimizer: dict[str, Any]
) -> None:
    raw["model"] |= model
    raw["optimizer"] = optimizer
    sweep = prepare(raw)
    trials = sweep.trials[WIDTH]
    group = train_all(sweep, trials, CPU)
    assert group.train_losses.shape == (STEPS, 7)
    for index in (0, 3, 6):
        alone = train_all(sweep, [trials[index]], CPU)
        assert torch.equal(group.train_losses[:, index], alone.train_losses[:, 0])
        assert torch.equal(group.eval_losses[index], alone.eval_losses[0])


def plain_losses(sweep: Sweep, trial: Trial) -> Tensor:
    """Losses of the same trial in plain PyTorch, with explicit multipliers of the plan."""
    protocol, plan = sweep.protocol, sweep.trial_plan(trial)
    ensemble = Ensemble(sweep.model(trial.width), protocol.train, protocol.optimizer, CPU)
    state = ensemble.start([plan], [trial.seed])
    weights = [state.params[p.name][0].detach().clone().requires_grad_() for p in plan]
    groups = [
        {"params": [weight], "lr": p.lr, "weight_decay": p.weight_decay, "eps": p.eps}
        for weight, p in zip(weights, plan, strict=True)
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    factors = [*schedule_tensor(protocol.train).double().tolist(), 0.0]
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factors.__getitem__)
    first, hidden, last = (p.multiplier for p in plan)
    samples, losses = torch.from_numpy(sweep.corpus.train), []
    for rows in train_offsets(sweep.corpus, protocol.train, trial.seed):
        x, y = samples[rows, :8], samples[rows, 8:]
        x = F.relu(x @ (first * weights[0]).T)
        x = F.relu(x @ (hidden * weights[1]).T)
        loss = (x @ (last * weights[2]).T - y).square().mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        scheduler.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def test_a_group_equals_plain_training(raw: dict[str, Any], prepare: Prepare) -> None:
    raw["optimizer"] = {"weight_decay": 0.1}
    sweep = prepare(raw)
    trials = sweep.trials[WIDTH]
    group = train_all(sweep, trials, CPU)
    assert float(group.eval_losses.min()) < 0.5 * float(group.train_losses[0, 0])
    for index in (0, 3, 5):
        plain = plain_losses(sweep, trials[index])
        torch.testing.assert_close(group.train_losses[:, index], plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp64"])
def test_other_precisions_train_close_to_fp32(
    raw: dict[str, Any], prepare: Prepare, precision: str
) -> None:
    usual = train_all(prepare(raw), prepare(raw).trials[WIDTH][:4], CPU)
    raw["train"]["precision"] = precision
    other = train_all(prepare(raw), prepare(raw).trials[WIDTH][:4], CPU)
    tolerance = 2e-2 if precision == "bf16" else 1e-4
    torch.testing.assert_close(
        other.train_losses.float(), usual.train_losses, rtol=tolerance, atol=0
    )
    assert not torch.equal(other.train_losses.float(), usual.train_losses)


def test_it_goes_on_from_its_state(raw: dict[str, Any], prepare: Prepare) -> None:
    sweep = prepare(raw)
    (job,) = sweep.jobs(sweep.trials[WIDTH][3:4])
    trainer = sweep.trainer(WIDTH, DeviceText.on(CPU, sweep.corpus))
    whole, cut, resumed = (trainer.slots([job], 1) for _ in range(3))
    train_steps(whole, STEPS, lambda: None, None)
    train_steps(cut, 13, lambda: None, None)
    state = {name: stack[0].detach().clone() for name, stack in cut.state().items()}
    resumed.restore(0, state, job, 13)
    train_steps(resumed, STEPS - 13, lambda: None, None)
    assert torch.equal(resumed.losses(0), whole.losses(0))
    assert resumed.evaluate() == whole.evaluate()


def test_no_operation_loops_over_trials(raw: dict[str, Any], prepare: Prepare) -> None:
    raw["model"] |= {"depth": 2, "norm": "rms"}
    sweep = prepare(raw)
    functorch: Any = torch._C._functorch
    functorch._set_vmap_fallback_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert train_all(sweep, sweep.trials[WIDTH][:2], CPU).eval_losses.isfinite().all()
    finally:
        functorch._set_vmap_fallback_enabled(True)


def test_it_compiles_whole(
    raw: dict[str, Any], prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_whole = partial(torch.compile, backend="eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", compile_whole)
    raw["train"] |= {"steps": 4, "warmup": 1}
    raw["model"]["norm"] = "rms"
    sweep = prepare(raw)
    trials = sweep.trials[WIDTH][:3]
    eager, compiled = train_all(sweep, trials, CPU), train_all(sweep, trials, CPU, compiled=True)
    torch.testing.assert_close(compiled.train_losses, eager.train_losses, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("depth", [0, 2])
def test_parameters_and_flops_are_those_of_the_module(
    tiny_mlp: dict[str, Any], prepare: Prepare, depth: int
) -> None:
    """Data have no gradient, so the first matrix costs two products and the others three."""
    tiny_mlp["model"]["depth"] = depth
    sweep = prepare(tiny_mlp)
    protocol, model = sweep.protocol, sweep.model(32)
    cost = mlp_cost(protocol, 32)
    assert cost.parameters == sum(p.numel() for p in model.parameters())
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(protocol.train.batch, 8)).sum().backward()
    assert cost.flops == counter.get_total_flops() * protocol.train.steps
