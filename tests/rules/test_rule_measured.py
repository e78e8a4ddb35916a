"""The derived exponents compared with real proxies on real text, over a wide range of widths.

`pytest -rP` prints the slopes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from mutransfer_cli.data.corpus import DeviceText, eval_offsets, gather, train_offsets
from mutransfer_cli.rules.choices import PARAMETERIZATIONS, ParameterizationName
from mutransfer_cli.rules.rule import Rule, role_exponents
from mutransfer_cli.spec.sweep import SweepSpec
from mutransfer_cli.strict import validated
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.ensemble import Ensemble, Trials
from tests.conftest import CPU

BASE_WIDTH = 64
WIDTHS, WIDE = (64, 128, 256, 512), (64, 128, 256, 512, 1024)
CONTEXT, BATCH, SEEDS = 32, 4, (0, 1)

Measure = Callable[["Proxies"], Mapping[str, float]]


class Proxies:
    """Two seeds of a proxy at one width, with their batches."""

    def __init__(
        self, width: int, rule: dict[str, Any], optimizer: dict[str, Any], lr: float, steps: int
    ) -> None:
        spec = {
            "schema": "mutransfer.sweep/1",
            "data": {"source": "stdlib"},
            "parameterization": {"base_width": BASE_WIDTH, **rule},
            "optimizer": optimizer,
            "train": {"steps": steps, "batch": BATCH, "context": CONTEXT, "clip": None},
            "sweep": {"widths": [width], "axes": {"lr": [lr]}, "seeds": SEEDS},
        }
        sweep = Sweep.prepare(validated(SweepSpec, spec, "test"), Path())
        text, train = DeviceText.on(CPU, sweep.corpus), sweep.protocol.train
        self.ensemble: Ensemble = sweep.trainer(width, text).ensemble
        self.plan = sweep.trial_plan(sweep.trials[width][0])
        self.trials: Trials = self.ensemble.start([self.plan] * len(SEEDS), SEEDS)
        offsets = torch.stack([train_offsets(sweep.corpus, train, seed) for seed in SEEDS], dim=1)
        self.batches = [gather(text.train, batch, CONTEXT) for batch in offsets]
        self.probe = gather(text.eval, eval_offsets(sweep.corpus, train)[0], CONTEXT)[:, :-1]

    def train(self) -> None:
        for tokens in self.batches:
            self.ensemble.step(self.trials, tokens, torch.ones(len(SEEDS)))

    def gradients(self) -> dict[str, Tensor]:
        params = self.trials.params
        losses = self.ensemble.losses(params, self.trials.multipliers, self.batches[0])
        return dict(
            zip(params, torch.autograd.grad(losses.sum(), list(params.values())), strict=True)
        )

    @torch.no_grad()
    def features(self) -> dict[str, Tensor]:
        """The residual stream after the embedding and each block, stacked over seeds."""
        found: dict[str, list[Tensor]] = {}
        with listening(self.ensemble.model, found):
            for seed in range(len(SEEDS)):
                weights = {
                    name: self.trials.multipliers[name] * stack[seed]
                    for name, stack in self.trials.params.items()
                }
                functional_call(self.ensemble.model, weights | self.ensemble.buffers, self.probe)
        return {name: torch.stack(outputs) for name, outputs in found.items()}


@contextmanager
def listening(model: nn.Module, found: dict[str, list[Tensor]]) -> Iterator[None]:
    """Collect the outputs of the embedding, the blocks and the readout."""
    handles = [
        module.register_forward_hook(
            lambda _, __, output, name=name: found.setdefault(name, []).append(output)
        )
        for name, module in model.named_modules()
        if name in ("embedding", "blocks.0", "blocks.1", "readout")
    ]
    yield
    for handle in handles:
        handle.remove()


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


def slopes(
    measure: Measure,
    widths: tuple[int, ...],
    rule: dict[str, Any],
    optimizer_at: Callable[[int], dict[str, Any]] = lambda width: {},
    lr: float = 2**-7,
    steps: int = 10,
) -> dict[str, float]:
    """d log(quantity) / d log(width) of each quantity that `measure` returns."""
    rows = [measure(Proxies(width, rule, optimizer_at(width), lr, steps)) for width in widths]
    found = {
        name: float(np.polyfit(np.log(widths), np.log([row[name] for row in rows]), 1)[0])
        for name in rows[0]
    }
    print(rule, optimizer_at(widths[-1]), {name: round(slope, 3) for name, slope in found.items()})
    return found


def gradient_sizes(proxies: Proxies) -> dict[str, float]:
    return {name: rms(gradient) for name, gradient in proxies.gradients().items()}


def feature_changes(proxies: Proxies) -> dict[str, float]:
    before = proxies.features()
    proxies.train()
    return {name: rms(after - before[name]) for name, after in proxies.features().items()}


def hidden_updates(proxies: Proxies) -> dict[str, float]:
    """Sizes of the updates of hidden matrices, divided by their learning rates."""
    before = {name: stack.detach().clone() for name, stack in proxies.trials.params.items()}
    proxies.train()
    return {
        p.name: rms(proxies.trials.params[p.name].detach() - before[p.name]) / p.lr
        for p in proxies.plan
        if p.role == "hidden"
    }


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_gradients_at_init(parameterization: ParameterizationName) -> None:
    rule = {"name": parameterization}
    measured = slopes(gradient_sizes, WIDE, rule, steps=1)
    plan = Proxies(BASE_WIDTH, rule, {}, lr=0.01, steps=1).plan
    assert {p.role for p in plan} == {"embedding", "hidden", "readout"}
    for p in plan:
        x = role_exponents(Rule(parameterization), p.role)
        assert x.gradient is not None
        assert measured[p.name] == pytest.approx(float(x.gradient), abs=0.1), p.name


@pytest.mark.parametrize("parameterization", PARAMETERIZATIONS)
def test_features_move_alike_at_all_widths_under_full_alignment(parameterization: str) -> None:
    measured = slopes(feature_changes, WIDTHS, {"name": parameterization})
    assert set(measured) == {"embedding", "blocks.0", "blocks.1", "readout"}
    for name, slope in measured.items():
        assert abs(slope) <= 0.25, (name, slope)


def test_under_one_global_rate_they_do_not() -> None:
    measured = slopes(feature_changes, WIDTHS, {"name": "standard", "lr_rule": "global"})
    assert min(measured["blocks.0"], measured["blocks.1"]) > 0.25


def muon_slopes(parameterization: str, adjustment: str, lr: float, extra: float) -> list[float]:
    """Slopes of both blocks, with the derived hidden exponent c plus `extra`."""

    def muon(width: int) -> dict[str, Any]:
        hidden = (width / BASE_WIDTH) ** -extra
        return {"name": "muon", "lr_adjustment": adjustment, "lr_mult": {"hidden": hidden}}

    rule = {"name": parameterization}
    measured = slopes(feature_changes, (64, 128, 256), rule, muon, lr, steps=6)
    return [measured["blocks.0"], measured["blocks.1"]]


@pytest.mark.parametrize(
    ("parameterization", "adjustment", "lr"),
    [("mup", "original", 2**-5), ("ntk", "match_rms_adamw", 2**-7)],
)
def test_muon_moves_features_alike_at_all_widths(
    parameterization: str, adjustment: str, lr: float
) -> None:
    assert max(map(abs, muon_slopes(parameterization, adjustment, lr, extra=0))) <= 0.1


def test_muon_matched_to_adamw_does_not_follow_adamws_exponent() -> None:
    """Updates are as large as AdamW's but orthogonal: c is 1/2; with AdamW's 1 features slow."""
    assert max(map(abs, muon_slopes("mup", "match_rms_adamw", 2**-7, extra=0))) <= 0.1
    assert max(muon_slopes("mup", "match_rms_adamw", 2**-7, extra=0.5)) < -0.25


def first_update(optimizer: dict[str, Any], **rule: str) -> list[float]:
    measured = slopes(hidden_updates, WIDE, {"name": "ntk", **rule}, lambda _: optimizer, steps=1)
    return list(measured.values())


def test_a_constant_epsilon_stops_the_hidden_layers_of_ntk_at_large_width() -> None:
    """The gradient scales as 1/n, and so does the update once the gradient is below eps."""
    assert max(first_update({"eps": 1e-2})) < -0.5


def test_epsilon_per_layer_and_atan2_do_not() -> None:
    for measured in (
        first_update({"eps": 1e-2}, epsilon="per_layer"),
        first_update({"name": "adam_atan2"}),
    ):
        assert max(map(abs, measured)) <= 0.05
