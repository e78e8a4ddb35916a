"""A weight that is embedding and readout has a multiplier for each use; draws are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mutransfer_cli.data.corpus import gather, train_offsets
from mutransfer_cli.errors import InputError
from mutransfer_cli.sweep.prepare import Sweep, Trial
from mutransfer_cli.train.ensemble import Ensemble
from mutransfer_cli.train.execution import EAGER
from mutransfer_cli.train.slots import schedule_tensor
from tests.conftest import CPU
from tests.proxies.tied_gpts import Gpt
from tests.proxies.tied_plans import WTE, spec_of
from tests.train.trained import train_all

Prepare = Callable[[dict[str, Any]], Sweep]


@pytest.fixture
def spec(tiny: dict[str, Any]) -> dict[str, Any]:
    tiny["train"] |= {"steps": 8, "batch": 4, "clip": None}
    tiny["optimizer"] = {"weight_decay": 0.1}
    tiny["sweep"] = {"widths": [32], "axes": {"lr": [2**-8, 2**-5]}}
    return tiny


def plain_losses(sweep: Sweep, trial: Trial) -> Tensor:
    """The same trial in plain PyTorch, whose code multiplies embeddings and logits."""
    protocol, plan = sweep.protocol, sweep.trial_plan(trial)
    model = sweep.model(trial.width)
    assert isinstance(model, Gpt)
    started = Ensemble(model, protocol.train, protocol.optimizer, CPU).start([plan], [trial.seed])
    planned, named = {p.name: p for p in plan}, dict(model.named_parameters())
    for name, stack in started.params.items():
        named[name].data.copy_(stack[0].detach())
    wte = planned[WTE]
    assert wte.output_multiplier is not None
    inner = model.transformer["wte"].register_forward_hook(
        lambda module, args, output: wte.multiplier * output
    )
    outer = model.lm_head.register_forward_hook(
        lambda module, args, output: wte.output_multiplier * output
    )
    others = [p for p in plan if p.name != WTE]
    assert all(p.multiplier == 1 or p.role == "embedding" for p in others)
    wpe = planned["transformer.wpe.weight"]
    where = model.transformer["wpe"].register_forward_hook(
        lambda module, args, output: wpe.multiplier * output
    )
    groups = [
        {"params": [named[p.name]], "lr": p.lr, "weight_decay": p.weight_decay, "eps": p.eps}
        for p in plan
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95))
    factors = schedule_tensor(protocol.train).double().tolist()
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: ([*factors, 0.0])[step])
    offsets = train_offsets(sweep.corpus, protocol.train, trial.seed)
    text, losses = torch.from_numpy(sweep.corpus.train), []
    for step in range(protocol.train.steps):
        tokens = gather(text, offsets[step], protocol.train.context)
        logits = model(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        scheduler.step()
        losses.append(loss.detach())
    for hook in (inner, outer, where):
        hook.remove()
    return torch.stack(losses)


def test_each_use_of_a_tied_weight_has_its_multiplier(
    spec: dict[str, Any], prepare: Prepare
) -> None:
    sweep = prepare(spec_of(spec))
    found = train_all(sweep, sweep.trials[32], CPU)
    wte = next(p for p in sweep.trial_plan(sweep.trials[32][0]) if p.name == WTE)
    assert (wte.multiplier, wte.output_multiplier) == pytest.approx((2**0.5, 2**-0.5))
    for index, trial in enumerate(sweep.trials[32]):
        plain = plain_losses(sweep, trial)
        torch.testing.assert_close(found.train_losses[:, index], plain, rtol=1e-5, atol=1e-5)
    plan = tuple(replace(p, is_tied_readout=False) for p in sweep.base_plan)
    untold = replace(sweep, base_plan=plan)
    assert not torch.allclose(
        train_all(untold, untold.trials[32], CPU).train_losses, found.train_losses, atol=1e-3
    )


def test_so_it_has_under_one_name_and_trial_by_trial(
    spec: dict[str, Any], prepare: Prepare
) -> None:
    two = prepare(spec_of(spec))
    one = prepare(spec_of(spec, "one_name"))
    found = [train_all(sweep, sweep.trials[32], CPU).train_losses for sweep in (two, one)]
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)
    plans, seeds = [two.trial_plan(trial) for trial in two.trials[32]], [0, 0]
    tokens = torch.arange(2 * 4 * 17).view(2, 4, 17) % 256
    for sweep in (two, one):
        losses = []
        for execution in (EAGER, replace(EAGER, batched=False)):
            ensemble = Ensemble(
                sweep.model(32), sweep.protocol.train, sweep.protocol.optimizer, CPU, execution
            )
            losses.append(ensemble.evaluate(ensemble.start(plans, seeds), tokens))
        torch.testing.assert_close(*losses)


def test_a_loss_alone_of_one_name_is_refused_before_training(
    spec: dict[str, Any], prepare: Prepare
) -> None:
    with pytest.raises(InputError, match=r"wte\.weight: is embedding and readout under one name"):
        prepare(spec_of(spec, "loss_alone"))


STD = 3**-0.5  # of values spread evenly from -1 to 1


def test_a_draw_that_is_kept_is_the_modules_own(spec: dict[str, Any], prepare: Prepare) -> None:
    sweep = prepare(spec | {"model": {"factory": "tests.proxies.own_models:token_mlp"}})
    kept = replace(
        sweep,
        base_plan=tuple(
            replace(p, keeps_draw=True, init_std=STD) if p.name == "up.bias" else p
            for p in sweep.base_plan
        ),
    )
    started, model = [], sweep.model(32)
    own = torch.linspace(-1, 1, 128)
    model.get_parameter("up.bias").data.copy_(own)
    for each in (sweep, kept):
        plans = [each.trial_plan(trial) for trial in each.trials[32]]
        ensemble = Ensemble(model, each.protocol.train, each.protocol.optimizer, CPU)
        started.append(ensemble.start(plans, [0, 1]).params)
    before, after = started
    assert torch.equal(after["up.bias"], own.expand(2, -1))
    assert not before["up.bias"].any()
    for name in before.keys() - {"up.bias"}:
        assert torch.equal(before[name], after[name])
