from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.cost import trial_cost
from tests.proxies.options import OPTIONS

CLEAR_REFS = Path("/proc/self/clear_refs")
Prepare = Callable[[dict[str, Any]], Sweep]


@pytest.mark.parametrize("name", ["default", *OPTIONS])
def test_parameters_and_flops_are_those_of_the_module(
    tiny: dict[str, Any], prepare: Prepare, name: str
) -> None:
    """torch counts all of the attention matrix; the formula counts only its causal half."""
    tiny["model"] |= {"depth": 2} | OPTIONS.get(name, {})
    tiny["sweep"]["widths"] = [32]
    sweep = prepare(tiny)
    protocol, model = sweep.protocol, sweep.model(32)
    cost = trial_cost(protocol, 32)
    assert cost.parameters == sum(p.numel() for p in model.parameters())
    tokens = torch.zeros(protocol.train.batch, protocol.train.context, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(tokens).sum().backward()
    counts = counter.get_flop_counts()["Global"]
    products = sum(n for op, n in counts.items() if "attention" not in str(op))
    attention = 6 * 2 * protocol.train.context * 32 * protocol.batch_tokens
    assert cost.flops == (products + attention) * protocol.train.steps


def test_a_tied_weight_is_counted_once(tiny: dict[str, Any], prepare: Prepare) -> None:
    untied = trial_cost(prepare(tiny).protocol, 32)
    tiny["model"]["tied_embeddings"] = True
    tiny["parameterization"] |= {"name": "standard", "lr_rule": "global"}
    sweep = prepare(tiny)
    tied = trial_cost(sweep.protocol, 32)
    assert tied.parameters == sum(p.numel() for p in sweep.model(32).parameters())
    assert tied.parameters == untied.parameters - 256 * 32
    assert tied.flops == untied.flops


LLAMA = {"preset": "llama", "kv_group": 2}


@pytest.mark.parametrize("options", [{}, LLAMA], ids=["default", "llama"])
@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="the kernel does not reset peaks")
def test_the_peak_of_a_group_is_predicted(
    tiny: dict[str, Any], prepare: Prepare, options: dict[str, Any]
) -> None:
    """The peak is measured in a separate process, where nothing else takes memory."""
    tiny["model"] = {"depth": 4, "head_size": 16} | options
    tiny["parameterization"]["base_width"] = 64
    tiny["train"] |= {"batch": 16, "context": 64}
    tiny["data"] = {"source": "stdlib"}
    tiny["sweep"] = {"widths": [256], "axes": {"lr": [2.0**-k for k in range(8, 12)]}}
    program = f"""
import sys, torch
from pathlib import Path
from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.sweep.prepare import Sweep
def kilobytes(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))
sweep = Sweep.prepare(SweepSpec.model_validate({tiny!r}), Path())
trainer = sweep.trainer(256, DeviceText.on(torch.device("cpu"), sweep.corpus))
before = kilobytes("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
slots = trainer.slots(sweep.jobs(sweep.trials[256]), 4)
slots.step(); slots.step()
print(1024 * (kilobytes("VmHWM") - before))
"""
    out = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout
    predicted = trial_cost(prepare(tiny).protocol, 256).memory(4)
    assert int(out) == pytest.approx(predicted, rel=0.2)
