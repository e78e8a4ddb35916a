"""A width is compiled once: two graphs at its first step and none after, whatever is trained."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.execution import Execution
from tests.conftest import CPU
from tests.train.trained import train_jobs

Prepare = Callable[[dict[str, Any]], Sweep]
COMPILED = Execution(compiled=True, captured=False)


def graphs() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def test_two_graphs_at_the_first_step_and_none_after(
    tiny: dict[str, Any], prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    tiny["sweep"] = {
        "widths": [32],
        "axes": {
            "lr": [2**-9, 2**-7, 1e30],
            "weight_decay": [0, 0.1],
            "lr_mult.embedding": [1, 2],
        },
        "seeds": [0, 1],
    }
    tiny["parameterization"]["decay_convention"] = "independent"
    sweep = prepare(tiny)
    trainer = sweep.trainer(32, DeviceText.on(CPU, sweep.corpus), COMPILED)
    jobs = sweep.jobs(sweep.trials[32])
    before = graphs()
    slots = trainer.slots(jobs[:4], 4)
    slots.step()
    assert graphs() == before + 2
    with torch.compiler.set_stance("fail_on_recompile"):
        trained = train_jobs(trainer, jobs, 4)
    assert sum(at is None for at in trained.diverged_at) == 2 * len(jobs) // 3
    assert graphs() == before + 2
