"""A GPT as people write it for training is trained without dropout and by its own loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.proxies.example import Example
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.ensemble import Trials, effective_weights
from mutransfer_cli.train.execution import EAGER, Execution, allowed
from tests.conftest import CPU
from tests.train.trained import train_all

Prepare = Callable[[dict[str, Any]], Sweep]
WIDTH, SEEDS = 32, (0, 1, 2)
ONE_BY_ONE = Execution(compiled=False, captured=False, batched=False)


@pytest.fixture
def sweep(tiny: dict[str, Any], prepare: Prepare) -> Sweep:
    tiny["model"] = {"factory": "tests.proxies.nano_gpt:nano_gpt", "args": {"tied": False}}
    tiny["sweep"] = {"widths": [WIDTH], "axes": {"lr": [2**-7, 2**-6, 2**-5]}, "seeds": [0]}
    return prepare(tiny)


def started(sweep: Sweep, execution: Execution) -> tuple[Trials, Callable[[Tensor], Tensor]]:
    """Trials of the seeds, and the function from a batch to their losses."""
    engine = sweep.trainer(WIDTH, DeviceText.on(CPU, sweep.corpus), execution).ensemble
    trials = engine.start([sweep.trial_plan(sweep.trials[WIDTH][0])] * len(SEEDS), SEEDS)
    return trials, lambda batch: engine.losses(trials.params, trials.multipliers, batch)


def tokens() -> Tensor:
    return torch.randint(256, (len(SEEDS), 2, 17), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("execution", [EAGER, ONE_BY_ONE])
def test_its_loss_is_that_of_the_module_in_eval_mode(sweep: Sweep, execution: Execution) -> None:
    model, batch = sweep.model(WIDTH), tokens()
    assert allowed(model, Example(batch[0], 256), EAGER) == (EAGER, "")
    trials, losses = started(sweep, execution)
    found = losses(batch)
    weights = effective_weights(trials.params, trials.multipliers)
    for trial in range(len(SEEDS)):
        model.load_state_dict({name: stack[trial].detach() for name, stack in weights.items()})
        _, loss = model.eval()(batch[trial, :, :-1].contiguous(), batch[trial, :, 1:].contiguous())
        torch.testing.assert_close(found[trial], loss)


def test_side_by_side_is_one_after_the_other(sweep: Sweep) -> None:
    gradients = []
    for execution in (EAGER, ONE_BY_ONE):
        trials, losses = started(sweep, execution)
        found = torch.autograd.grad(losses(tokens()).sum(), list(trials.params.values()))
        gradients.append(found)
    torch.testing.assert_close(*gradients)


def test_dropout_that_asks_for_the_mode_is_off(sweep: Sweep) -> None:
    model = sweep.model(WIDTH)
    own = [m for m in model.modules() if type(m).__module__ == "tests.proxies.nano_gpt"]
    assert len(own) == 12
    assert not any(m.training for m in own)
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == {0.0}


def test_it_trains_by_its_own_loss_and_z_loss(tiny: dict[str, Any], prepare: Prepare) -> None:
    tiny["model"] = {
        "factory": "tests.proxies.nano_gpt:nano_gpt",
        "roles": {"transformer.wte.weight": "embedding"},
    }
    tiny["train"] |= {"steps": 20, "z_loss": 1e-4}
    tiny["sweep"] = {"widths": [WIDTH], "axes": {"lr": [2**-7, 2**-6]}}
    sweep = prepare(tiny)
    trained = train_all(sweep, sweep.trials[WIDTH], CPU)
    assert bool((trained.train_losses[-1] < trained.train_losses[0] - 0.5).all())
