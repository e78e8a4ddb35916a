"""Ways of execution that a model permits: side by side or one by one, compiled or not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mutransfer_cli.optim.adamw import AdamWSpec
from mutransfer_cli.proxies.example import Example
from mutransfer_cli.spec.sweep import TrainSpec
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train.ensemble import Ensemble
from mutransfer_cli.train.execution import EAGER, Execution, allowed
from tests.conftest import CPU

TOKENS = Example(torch.arange(8).view(2, 4), 8)
ALL = Execution(compiled=True, captured=True)
Prepare = Callable[[dict[str, Any]], Sweep]


class Base(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(8, 8)
        self.norm = nn.BatchNorm1d(8)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.embedding(tokens)
        return out


class Branching(Base):
    def forward(self, tokens: Tensor) -> Tensor:
        x = super().forward(tokens)
        return x if x.sum() > 0 else 2 * x


class Stateful(Base):
    def forward(self, tokens: Tensor) -> Tensor:
        x: Tensor = self.norm(super().forward(tokens).mT)
        return x.mT


class Doubled(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return 3 * gradients[0]  # its own gradient, not that of its forward


class Custom(Base):
    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = Doubled.apply(super().forward(tokens))  # type: ignore[no-untyped-call]
        return out


def test_a_plain_model_permits_all() -> None:
    assert allowed(Base(), TOKENS, ALL) == (ALL, "")


def test_so_does_the_proxy(tiny: dict[str, Any], prepare: Prepare) -> None:
    assert allowed(prepare(tiny).model(32), TOKENS, ALL) == (ALL, "")


@pytest.mark.parametrize("model", [Branching(), Stateful()])
def test_what_cannot_be_batched_is_trained_one_after_the_other(model: nn.Module) -> None:
    before = [buffer.clone() for buffer in model.buffers()]
    execution, sentence = allowed(model, TOKENS, ALL)
    assert execution == Execution(compiled=False, captured=False, batched=False)
    assert sentence.startswith("the model cannot be batched (")
    assert "\n" not in sentence
    for was, buffer in zip(before, model.buffers(), strict=True):
        assert torch.equal(was, buffer), "only tried"


def test_a_function_with_a_backward_of_its_own_is_not_compiled() -> None:
    execution, sentence = allowed(Custom(), TOKENS, ALL)
    assert execution == Execution(compiled=False, captured=True)
    assert "holds Doubled, an autograd.Function" in sentence
    assert allowed(Custom(), TOKENS, EAGER) == (EAGER, ""), "eager it is right"


def losses(model: nn.Module, batched: bool, trials: list[int]) -> tuple[Tensor, list[Tensor]]:
    """Losses of trials with their own weights, and the gradients."""
    execution = Execution(compiled=False, captured=False, batched=batched)
    engine = Ensemble(model, TrainSpec(steps=1), AdamWSpec(), CPU, execution)
    params = {
        name: torch.stack(
            [
                torch.randn(p.shape, generator=torch.Generator().manual_seed(trial))
                for trial in trials
            ]
        ).requires_grad_()
        for name, p in model.named_parameters()
    }
    tokens = torch.stack([torch.arange(10).view(2, 5).add(trial) % 8 for trial in trials])
    found = engine.losses(params, dict.fromkeys(params, 1.0), tokens)
    gradients = torch.autograd.grad(found.sum(), list(params.values()), materialize_grads=True)
    return found.detach(), list(gradients)


@pytest.mark.parametrize("model", [Base(), Custom()])
def test_one_after_the_other_is_side_by_side(model: nn.Module) -> None:
    apart, apart_gradients = losses(model, False, [0, 1, 2])
    together, together_gradients = losses(model, True, [0, 1, 2])
    torch.testing.assert_close(apart, together)
    torch.testing.assert_close(apart_gradients, together_gradients)


@pytest.mark.parametrize("model", [Branching(), Stateful()])
def test_one_after_the_other_knows_nothing_of_the_others(model: nn.Module) -> None:
    together, _ = losses(model, False, [0, 1, 2])
    for trial in (0, 1, 2):
        assert torch.equal(losses(model, False, [trial])[0][0], together[trial])


class Recomputing(Base):
    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = checkpoint(super().forward, tokens, use_reentrant=False)
        return out


def test_a_model_that_recomputes_is_trained_side_by_side() -> None:
    """Otherwise its gradients under vmap end in an error, and one by one they are wrong."""
    model = Recomputing()
    assert allowed(model, TOKENS, EAGER) == (EAGER, "")
    engine = Ensemble(model, TrainSpec(steps=1), AdamWSpec(), CPU, EAGER)
    params = {n: torch.stack([p, 2 * p]).detach() for n, p in model.named_parameters()}
    for stack in params.values():
        stack.requires_grad_()
    batch = torch.stack([TOKENS.batch, TOKENS.batch])
    losses = engine.losses(params, dict.fromkeys(params, 1.0), batch)
    found = torch.autograd.grad(losses.sum(), params["embedding.weight"])[0]
    assert found.flatten(1).any(1).all()


class Dispatching(Base):
    def forward(self, tokens: Tensor) -> Tensor:
        x = super().forward(tokens)
        rows, _ = torch.where(tokens > 2)
        return x + len(rows)


def test_torchs_wish_for_a_report_is_not_passed_on() -> None:
    _, sentence = allowed(Dispatching(), TOKENS, EAGER)
    assert sentence.startswith("the model cannot be batched (vmap: We do not support batching")
    assert "aten::where. (test_execution.py:" in sentence
    assert "file an issue" not in sentence
