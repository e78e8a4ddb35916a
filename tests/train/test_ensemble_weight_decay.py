"""Weight decay of each role in the step that trains proxies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mutransfer_cli.optim.stack import Stack
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.ensemble import Ensemble
from mutransfer_cli.train.execution import EAGER
from tests.conftest import CPU

Prepare = Callable[[dict[str, Any]], Sweep]
WIDTH, RATES, DECAY = 32, [0.002, 0.01], 0.5
EMBEDDING = "embedding.weight"


def stepped(sweep: Sweep) -> tuple[Stack, Stack]:
    """The weights of all trials before and after a step on the same batch."""
    trials, protocol = sweep.trials[WIDTH], sweep.protocol
    engine = Ensemble(sweep.model(WIDTH), protocol.train, protocol.optimizer, CPU, EAGER)
    state = engine.start([sweep.trial_plan(t) for t in trials], [t.seed for t in trials])
    first = {name: stack.detach().clone() for name, stack in state.params.items()}
    batch = torch.randint(256, (2, 17), generator=torch.Generator().manual_seed(0))
    engine.step(state, batch.repeat(len(trials), 1, 1), torch.ones(len(trials)))
    return first, state.params


@pytest.mark.parametrize("rule", ["linear_width", "constant"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "adafactor", "muon"])
def test_embeddings_decay_by_their_own_rate_where_asked(
    tiny: dict[str, Any], prepare: Prepare, optimizer: str, rule: str
) -> None:
    tiny["optimizer"] = {"name": optimizer, "weight_decay": DECAY}
    tiny["parameterization"] |= {"weight_decay": rule}
    tiny["sweep"] = {"widths": [WIDTH], "axes": {"lr": RATES}, "seeds": [0]}
    first, plain = stepped(prepare(tiny))
    tiny["parameterization"]["embedding_decay"] = "as_hidden"
    sweep = prepare(tiny)
    again, asked = stepped(sweep)
    for name, stack in plain.items():
        assert torch.equal(first[name], again[name])
        if name != EMBEDDING:
            assert torch.equal(stack, asked[name]), name
    for index, trial in enumerate(sweep.trials[WIDTH]):
        (planned,) = (p for p in sweep.trial_plan(trial) if p.name == EMBEDDING)
        assert planned.weight_decay == pytest.approx(
            DECAY * (trial.axes["lr"] / planned.lr if rule == "linear_width" else 1)
        )
        share = planned.independent
        assert share is not None
        torch.testing.assert_close(
            plain[EMBEDDING][index] - asked[EMBEDDING][index], share * first[EMBEDDING][index]
        )
