"""Steady state of weight decay and noise: top singular values of hidden matrices by decay rule."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.rules.plan import PlannedParameter
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.loop import train_steps
from tests.conftest import CPU

Prepare = Callable[[dict[str, Any]], Sweep]
STEPS, WIDTHS = 800, [32, 64, 128]
HIDDEN = "hidden.0.weight"
EXPECTED = {"constant": -1 / 2, "sqrt_width": -3 / 4, "linear_width": -1.0}  # each plus p


@pytest.fixture
def steady(tiny_mlp: dict[str, Any]) -> dict[str, Any]:
    """A spec whose slowest time constant 1 / (lr * weight decay), at the widest, is 400 steps."""
    tiny_mlp["model"]["norm"] = "rms"
    tiny_mlp["data"] |= {"inputs": 64, "outputs": 64, "samples": 60_000, "noise": 1.0}
    tiny_mlp["optimizer"] = {"name": "adamw", "weight_decay": 0.5}
    tiny_mlp["train"] |= {"steps": STEPS, "batch": 64, "schedule": "constant", "clip": None}
    tiny_mlp["parameterization"]["base_width"] = 32
    tiny_mlp["sweep"] = {"widths": WIDTHS, "axes": {"lr": [0.02]}}
    return tiny_mlp


def trained(sweep: Sweep) -> dict[int, tuple[Tensor, PlannedParameter]]:
    """The hidden matrix of each width after training, and its planned values."""
    found = {}
    for width, trials in sweep.trials.items():
        (job,) = sweep.jobs(trials)
        slots = sweep.trainer(width, DeviceText.on(CPU, sweep.corpus)).slots([job], 1)
        train_steps(slots, STEPS, lambda: None, None)
        (planned,) = (p for p in job.plan if p.name == HIDDEN)
        found[width] = slots.trials.params[HIDDEN][0].detach(), planned
    return found


def width_exponent(values: dict[int, float]) -> float:
    return float(np.polyfit(np.log2([*values]), np.log2([*values.values()]), 1)[0])


@pytest.mark.slow
def test_the_top_singular_value_follows_the_decay_rule(
    steady: dict[str, Any], prepare: Prepare
) -> None:
    """Fan et al. 2025 (arXiv 2510.15262) observe sqrt(lr / wd) * d^p with p = 0.75.

    With lr ~ 1/d the exponents of the rules wd ~ 1, d^1/2 and d then differ by 1/4. This small net
    shows that, with p between 1/2 (entries of independent noise) and 1 (one common direction).
    """
    exponents = {}
    for rule in EXPECTED:
        steady["parameterization"]["weight_decay"] = rule
        by_width = trained(prepare(steady))
        for weight, planned in by_width.values():
            # noise alone gives entries of RMS sqrt(lr / (2 wd))
            noise_alone = math.sqrt(planned.lr / (2 * (planned.weight_decay or 0)))
            assert 0.6 < float(weight.square().mean().sqrt()) / noise_alone < 1
        tops = {w: float(torch.linalg.matrix_norm(m, 2)) for w, (m, _) in by_width.items()}
        exponents[rule] = width_exponent(tops)
    p = np.mean([exponents[rule] - EXPECTED[rule] for rule in EXPECTED])
    assert 1 / 2 < p < 1
    for rule, expected in EXPECTED.items():
        assert exponents[rule] == pytest.approx(p + expected, abs=0.08)
