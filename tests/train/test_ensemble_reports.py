"""Models of public reports, each with its address, that vmap cannot batch: they train all the same.

Each test first shows the report's own effect.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from mutransfer_cli.data.corpus import DeviceText
from mutransfer_cli.proxies.example import Example
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.execution import EAGER, allowed
from tests.conftest import CPU
from tests.train.test_ensemble import plain_losses
from tests.train.trained import train_jobs

Prepare = Callable[[dict[str, Any]], Sweep]
WIDTH, RATES = 24, [2.0**-8, 2.0**-5]


class Model(nn.Module):
    """Two ends, and a middle in between."""

    def __init__(self, width: int, vocab: int, middle: nn.Module) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab, width)
        self.middle = middle
        self.head = nn.Linear(width, vocab)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.head(self.between(self.embed(tokens)))
        return logits

    def between(self, x: Tensor) -> Tensor:
        out: Tensor = self.middle(x)
        return out


class WithLstm(Model):
    def between(self, x: Tensor) -> Tensor:
        out: Tensor = self.middle(x)[0]
        return out


class WithGru(Model):
    def between(self, x: Tensor) -> Tensor:
        out: Tensor = self.middle(x, x.new_zeros(1, len(x), x.shape[-1]))[0]
        return out


class WithBatchNorm(Model):
    def between(self, x: Tensor) -> Tensor:
        out: Tensor = self.middle(x.mT)
        return out.mT


class Validated(Model):
    def between(self, x: Tensor) -> Tensor:
        if x.isnan().any():
            raise RuntimeError("NaN detected in tensor")
        return super().between(x)


def lstm(width: int, vocab: int) -> nn.Module:
    return WithLstm(width, vocab, nn.LSTM(width, width, batch_first=True))


def gru(width: int, vocab: int) -> nn.Module:
    return WithGru(width, vocab, nn.GRU(width, width, batch_first=True))


def batch_norm(width: int, vocab: int) -> nn.Module:
    """The statistics of batches are kept, in place."""
    middle = nn.Sequential(nn.Conv1d(width, width, 1), nn.BatchNorm1d(width))
    return WithBatchNorm(width, vocab, middle)


def validated(width: int, vocab: int) -> nn.Module:
    return Validated(width, vocab, nn.Linear(width, width))


@pytest.fixture
def swept(tiny: dict[str, Any], prepare: Prepare) -> Callable[[str], Sweep]:
    """A sweep over a model of this file."""

    def of_model(name: str) -> Sweep:
        tiny["model"] = {"factory": f"tests.train.test_ensemble_reports:{name}"}
        tiny["train"] |= {"steps": 6, "context": 8, "eval_batches": 1}
        tiny["sweep"] = {"widths": [WIDTH], "axes": {"lr": RATES}}
        return prepare(tiny)

    return of_model


def ensemble(model: nn.Module, tokens: Tensor) -> Tensor:
    """Stacked copies of a model under vmap, as the reports call them."""
    stacks = {name: torch.stack([p, p]) for name, p in model.named_parameters()}
    outputs: Tensor = vmap(lambda values: functional_call(model, values, (tokens,)))(stacks)
    return outputs


@pytest.mark.parametrize(
    ("name", "effect", "said"),
    [
        # https://github.com/pytorch/pytorch/issues/105982
        ("lstm", "Batching rule not implemented for aten::lstm", "aten::lstm"),
        # https://github.com/pytorch/pytorch/issues/134606
        ("gru", "Batching rule not implemented for aten::gru", "aten::gru"),
        # https://github.com/pytorch/functorch/issues/273
        ("batch_norm", "will be updated in place, were not batched", "running_mean"),
        # https://github.com/pytorch/functorch/issues/19, and about its message
        # https://github.com/pytorch/pytorch/issues/186301
        ("validated", "file an issue", r"branches on values at test_ensemble_reports.py:\d+\)"),
    ],
)
def test_what_vmap_cannot_batch_trains_as_each_trial_alone_and_as_plain_torch(
    swept: Callable[[str], Sweep], name: str, effect: str, said: str
) -> None:
    sweep = swept(name)
    model, example = sweep.model(WIDTH), Example.of_tokens(8, 256)
    with pytest.raises(RuntimeError, match=effect):
        ensemble(model, example.batch[:, :-1])
    execution, why = allowed(model, example, EAGER)
    assert not execution.batched
    assert why.startswith("the model cannot be batched (")
    assert why.endswith("): one trial after the other")
    assert re.search(said, why)
    assert "file an issue" not in why
    text, trials = DeviceText.on(CPU, sweep.corpus), sweep.trials[WIDTH]
    group = train_jobs(sweep.trainer(WIDTH, text, execution), sweep.jobs(trials), len(trials))
    for index, trial in enumerate(trials):
        alone = train_jobs(sweep.trainer(WIDTH, text, execution), sweep.jobs([trial]), 1)
        assert torch.equal(group.train_losses[:, index], alone.train_losses[:, 0])
        plain = plain_losses(sweep, trial)
        torch.testing.assert_close(group.train_losses[:, index], plain, rtol=1e-5, atol=0)
    assert group.train_losses[-1, 1] < group.train_losses[0, 1]


def test_a_model_that_stops_at_what_is_no_number_has_diverged(
    swept: Callable[[str], Sweep],
) -> None:
    """Otherwise its error would leave the trial without a result, whatever is tried."""
    sweep = swept("validated")
    execution, _ = allowed(sweep.model(WIDTH), Example.of_tokens(8, 256), EAGER)
    ensemble = sweep.trainer(WIDTH, DeviceText.on(CPU, sweep.corpus), execution).ensemble
    plans, tokens = [sweep.trial_plan(t) for t in sweep.trials[WIDTH]], torch.ones(2, 2, 9).long()
    trials = ensemble.start(plans, [0, 0])
    with torch.no_grad():
        trials.params["embed.weight"][1, 1, 0] = torch.nan
    losses, gradients = ensemble.step(trials, tokens, torch.ones(2))
    assert losses.isfinite().tolist() == [True, False]
    assert all(gradient[0].isfinite().all() for gradient in gradients.values())
