"""Training is the same wherever the rules say so, over fifty unclipped steps in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.rules.choices import PARAMETERIZATIONS
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.slots import Job
from tests.conftest import CPU
from tests.train.test_ensemble import plain_losses
from tests.train.trained import train_jobs

Prepare = Callable[[dict[str, Any]], Sweep]
Losses = Callable[..., Tensor]
STEPS, BASE_WIDTH, WIDTH = 50, 16, 48
PAIRS = [("standard", "ntk"), ("mup", "mean_field")]
RATES = {"sgd": 0.05, "adafactor": 0.02, "muon": 0.02, "lion": 2**-9}


@pytest.fixture
def losses(tiny: dict[str, Any], prepare: Prepare) -> Losses:
    """Training losses [STEPS] of one proxy at three times the base width."""

    def train(
        name: str,
        optimizer: str = "adam_atan2",
        width: int = WIDTH,
        folded: bool = False,
        decay: float = 0.0,
        **rule: object,
    ) -> Tensor:
        tiny["model"]["attention_scale"] = "1/d_head"
        tiny["parameterization"] = {"name": name, "base_width": BASE_WIDTH, **rule}
        tiny["optimizer"] = {"name": optimizer, "weight_decay": decay}
        tiny["train"] |= {"steps": STEPS, "precision": "fp64", "clip": None}
        lr = RATES.get(optimizer, 2**-6)
        tiny["sweep"] = {"widths": [width], "axes": {"lr": [lr]}}
        sweep = prepare(tiny)
        protocol = sweep.protocol
        plan = protocol.parameterization.plan(
            protocol.optimizer, sweep.base_plan, width, {"lr": lr}, folded
        )
        assert folded <= ({p.multiplier for p in plan} == {1.0})
        trainer = sweep.trainer(width, DeviceText.on(CPU, sweep.corpus))
        return train_jobs(trainer, [Job("alone", plan, 0)], 1).train_losses[:, 0]

    return train


def difference(one: Tensor, other: Tensor) -> float:
    """Largest relative difference; the losses must have moved, or it would prove nothing."""
    assert one.dtype == torch.float64
    assert one[-1] < 0.9 * one[0]
    return float(((one - other) / one).abs().max())


DECAYS = [
    {},
    {"decay": 0.5, "weight_decay": "sqrt_width"},
    {"decay": 0.5, "weight_decay": "linear_width"},
    {"decay": 0.01, "weight_decay": "constant", "decay_convention": "independent"},
]


@pytest.mark.parametrize("decay", DECAYS, ids=lambda decay: decay.get("weight_decay", "none"))
@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_parameterizations_that_differ_by_multipliers_train_alike(
    losses: Losses, one: str, other: str, decay: dict[str, Any]
) -> None:
    assert difference(losses(one, **decay), losses(other, **decay)) <= 1e-9


@pytest.mark.parametrize("decay", DECAYS[1:], ids=lambda decay: decay["weight_decay"])
def test_the_decay_of_that_comparison_is_felt(losses: Losses, decay: dict[str, Any]) -> None:
    assert difference(losses("mup"), losses("mup", **decay)) > 1e-3


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_a_constant_lr_coupled_decay_tells_them_apart(losses: Losses, one: str, other: str) -> None:
    decay = {"decay": 0.5, "weight_decay": "constant"}
    assert difference(losses(one, **decay), losses(other, **decay)) > 1e-4


def test_parameterizations_of_other_pairs_differ(losses: Losses) -> None:
    assert difference(losses("standard"), losses("mup")) > 1e-3


@pytest.mark.parametrize("name", ["mup", "mean_field"])
@pytest.mark.parametrize(
    ("optimizer", "decay"),
    [
        ("sgd", 0.1),
        ("adam", 0.0),
        ("adamw", 0.5),
        ("adam_atan2", 0.5),
        ("lion", 0.5),
        ("adafactor", 0.5),
        ("muon", 0.5),
    ],
)
def test_folded_is_unfolded(losses: Losses, name: str, optimizer: str, decay: float) -> None:
    plain, folded = (losses(name, optimizer, folded=f, decay=decay) for f in (False, True))
    assert difference(plain, folded) <= 1e-9


def test_at_the_base_width_all_are_the_plain_model(
    losses: Losses, tiny: dict[str, Any], prepare: Prepare
) -> None:
    engine = [losses(name, "adamw", width=BASE_WIDTH) for name in PARAMETERIZATIONS]
    assert all(torch.equal(engine[0], other) for other in engine[1:])
    sweep = prepare(tiny)
    plain = plain_losses(sweep, sweep.trials[BASE_WIDTH][0])
    assert difference(plain, engine[0]) <= 1e-9
