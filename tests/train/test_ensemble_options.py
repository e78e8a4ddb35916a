"""Every option of the built-in decoder passes through the engine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from mutransfer_cli.optim.stack import Stack
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.ensemble import Ensemble
from mutransfer_cli.train.execution import EAGER, Execution
from tests.conftest import CPU
from tests.proxies.options import OPTIONS

Prepare = Callable[[dict[str, Any]], Sweep]
Train = Callable[..., tuple[Tensor, Stack, Stack]]
STEPS, WIDTH = 4, 32

TIED = {"model": {"tied_embeddings": True}} | {
    "parameterization": {"name": "standard", "base_width": 16, "lr_rule": "global"}
}
MANY = {
    **{"heads": 4, "head_size": None, "kv_heads": 1, "qk_norm": True, "norm": "layer"},
    **{"gains": "vector", "biases": True, "embedding_norm": True, "mlp": "swiglu"},
}
CASES: dict[str, dict[str, Any]] = {
    "default": {},
    **{name: {"model": options} for name, options in OPTIONS.items()},
    "many": {"model": MANY},
    "z-loss": {"train": {"z_loss": 0.01}},
    "tied": TIED,
}


@pytest.fixture
def train(tiny: dict[str, Any], prepare: Prepare) -> Train:
    """Losses [STEPS, T] of trials of three rates and two seeds, and first and last weights."""

    def run(
        name: str, trials: slice = slice(None), execution: Execution = EAGER
    ) -> tuple[Tensor, Stack, Stack]:
        case = CASES[name]
        raw = tiny | {"sweep": {"widths": [WIDTH], "axes": {"lr": [0.002, 0.01]}, "seeds": [0, 1]}}
        raw |= case | {"model": {"depth": 1, "head_size": 8} | case.get("model", {})}
        raw["train"] = tiny["train"] | case.get("train", {})
        sweep = prepare(raw)
        chosen = sweep.trials[WIDTH][trials]
        protocol = sweep.protocol
        engine = Ensemble(sweep.model(WIDTH), protocol.train, protocol.optimizer, CPU, execution)
        state = engine.start([sweep.trial_plan(t) for t in chosen], [t.seed for t in chosen])
        first = {n: stack.detach().clone() for n, stack in state.params.items()}
        batches = torch.randint(256, (STEPS, 2, 17), generator=torch.Generator().manual_seed(0))
        losses = [
            engine.step(state, batch.repeat(len(chosen), 1, 1), torch.ones(len(chosen)))[0]
            for batch in batches
        ]
        return torch.stack(losses), first, state.params

    return run


@pytest.mark.parametrize("name", CASES)
def test_a_trial_in_a_group_is_the_trial_alone_and_all_of_it_learns(
    name: str, train: Train
) -> None:
    """No operation loops over trials: vmap's fallback is an error in this test."""
    functorch: Any = torch._C._functorch
    functorch._set_vmap_fallback_enabled(False)
    try:
        together, first, last = train(name)
    finally:
        functorch._set_vmap_fallback_enabled(True)
    alone, _, of_one = train(name, slice(1, 2))
    assert torch.equal(together[:, 1:2], alone)
    for parameter, stack in last.items():
        assert torch.equal(stack[1], of_one[parameter][0]), parameter
        for trial in range(4):
            assert not torch.equal(stack[trial], first[parameter][trial]), parameter


@pytest.mark.parametrize("name", ["many", "tied"])
def test_it_can_be_compiled(name: str, train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step is one graph without breaks."""
    quick = partial(torch.compile, backend="eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", quick)
    eager, _, _ = train(name)
    compiled, _, _ = train(name, execution=Execution(compiled=True, captured=False))
    torch.testing.assert_close(compiled, eager, rtol=1e-4, atol=1e-4)


def test_the_default_trains_as_it_always_did(train: Train) -> None:
    """The first losses of two trials date from before options; other CPUs round differently."""
    losses, _, _ = train("default")
    expected = [[5.747826, 5.861975, 5.616603, 5.650192], [5.694089, 5.722767, 5.695008, 5.970416]]
    torch.testing.assert_close(losses[:, 1:3].T, torch.tensor(expected), rtol=1e-5, atol=0)


def test_every_option_changes_training(train: Train) -> None:
    """Without this the other tests would prove nothing."""
    plain, _, _ = train("default")
    for name in CASES:
        losses, _, _ = train(name)
        assert torch.equal(losses, plain) == (name == "default"), name


def test_z_loss_is_trained_on_and_not_reported(train: Train) -> None:
    (plain, _, _), (penalised, _, _) = train("default"), train("z-loss")
    assert torch.equal(plain[0], penalised[0])
    assert not torch.equal(plain[1], penalised[1])


@pytest.mark.parametrize("name", ["many", "llama"])
def test_bf16_autocast_trains_close_to_fp32(
    name: str, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, _, _ = train(name)
    monkeypatch.setitem(CASES, name, CASES[name] | {"train": {"precision": "bf16"}})
    half, _, _ = train(name)
    assert not torch.equal(half, full)
    torch.testing.assert_close(half, full, rtol=2e-2, atol=0)


def test_zeros_at_init(train: Train) -> None:
    _, first, _ = train("zero query")
    assert not first["blocks.0.attention.query.weight"].any()
    losses, first, _ = train("zero readout")
    assert not first["readout.weight"].any()
    assert losses[0].tolist() == pytest.approx([torch.tensor(256.0).log().item()] * 4)


def test_a_tied_weight_gets_the_gradients_of_both_its_uses(
    tiny: dict[str, Any], prepare: Prepare
) -> None:
    tiny |= TIED | {"train": tiny["train"] | {"precision": "fp64"}}
    tiny["model"] = {"depth": 1, "head_size": 8, "tied_embeddings": True}
    sweep = prepare(tiny)
    engine = Ensemble(sweep.model(32), sweep.protocol.train, sweep.protocol.optimizer, CPU)
    trials = engine.start([sweep.trial_plan(sweep.trials[32][0])] * 2, [0, 1])
    tokens = torch.randint(256, (2, 2, 17), generator=torch.Generator().manual_seed(0))
    losses = engine.losses(trials.params, trials.multipliers, tokens)
    found = torch.autograd.grad(losses.sum(), list(trials.params.values()))
    for trial in range(2):
        untied: Any = sweep.model(32).double()
        for name, stack in trials.params.items():
            untied.get_parameter(name).data.copy_(stack[trial])
        logits = untied(tokens[trial, :, :-1])
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), tokens[trial, :, 1:].flatten()
        )
        expected = torch.autograd.grad(loss, [untied.get_parameter(n) for n in trials.params])
        for gradient, other in zip(found, expected, strict=True):
            torch.testing.assert_close(gradient[trial], other)
