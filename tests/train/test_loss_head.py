"""The loss head equals the cross-entropy of whole logits, in less memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mutransfer_cli.proxies.call import token_loss
from mutransfer_cli.sweep.prepare import Sweep
from mutransfer_cli.train import loss_head
from mutransfer_cli.train.ensemble import Ensemble, multipliers
from mutransfer_cli.train.loss_head import chunk_tokens, compiled_of_logits, linear_cross_entropy
from tests.conftest import CPU

Prepare = Callable[[dict[str, Any]], Sweep]
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
Z_LOSS = 0.05
Run = Callable[[Callable[..., Tensor]], list[Tensor]]
exactly = partial(torch.testing.assert_close, rtol=0, atol=1e-12)


def drawn(
    T: int, N: int, D: int, V: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """Random hidden states, weight and targets."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(T, N, D, generator=generator, dtype=dtype)
    weight = torch.randn(T, V, D, generator=generator, dtype=dtype)
    targets = torch.randint(V, (T, N), generator=generator)
    return hidden.requires_grad_(), weight.requires_grad_(), targets


def whole_logits(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    logits = hidden @ weight.mT
    return F.cross_entropy(logits.mT, targets, reduction="none").mean(1)


def penalised(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy with z-loss, by definition."""
    Z = (hidden @ weight.mT).exp().sum(-1)
    return whole_logits(hidden, weight, targets) + Z_LOSS * (Z.log() ** 2).mean(1)


def with_gradients(loss: Loss, hidden: Tensor, weight: Tensor, targets: Tensor) -> list[Tensor]:
    """Losses and both gradients, each trial's with its own factor."""
    losses = loss(hidden, weight, targets)
    factors = torch.linspace(-1, 2, len(losses), dtype=losses.dtype)
    return [losses.detach(), *torch.autograd.grad((factors * losses).sum(), (hidden, weight))]


@pytest.fixture
def poisoned_memory() -> Any:
    """Fill fresh memory with NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("T", [1, 4])
@pytest.mark.parametrize("N", [1, 8, 37])
def test_it_is_cross_entropy_in_one_chunk(T: int, N: int) -> None:
    case = drawn(T, N, 6, 50)
    exactly(with_gradients(linear_cross_entropy, *case), with_gradients(whole_logits, *case))


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("T", [1, 4, 7])
@pytest.mark.parametrize("N", [24, 37, 97])
def test_so_it_is_in_many(monkeypatch: pytest.MonkeyPatch, T: int, N: int) -> None:
    monkeypatch.setattr(loss_head, "CHUNK_TOKENS", 8)
    monkeypatch.setattr(loss_head, "CHUNK_LOGITS", 2 * 8 * 50)
    assert chunk_tokens(N, 50) <= 16 < N
    case = drawn(T, N, 6, 50)
    exactly(with_gradients(linear_cross_entropy, *case), with_gradients(whole_logits, *case))


@pytest.mark.parametrize("chunk", [8, 64])
@pytest.mark.parametrize("compiled", [False, True])
def test_z_loss_is_in_the_gradient_and_not_in_the_value(
    monkeypatch: pytest.MonkeyPatch, chunk: int, compiled: bool
) -> None:
    """The mean of z-loss is over the tokens of all chunks."""
    monkeypatch.setattr(loss_head, "CHUNK_TOKENS", chunk)
    monkeypatch.setattr(loss_head, "CHUNK_LOGITS", chunk * 50)
    if compiled:
        monkeypatch.setattr(loss_head, "of_logits", loss_head.fused_of_logits)
    case = drawn(3, 24, 4, 50)
    _, *expected = with_gradients(penalised, *case)
    losses, *found = with_gradients(partial(linear_cross_entropy, z_loss=Z_LOSS), *case)
    exactly(found, expected)
    assert torch.equal(losses, linear_cross_entropy(*case).detach())
    of_logits = partial(of_whole_logits, z_loss=Z_LOSS)
    losses, *found = with_gradients(of_logits, *case)
    exactly(found, expected)
    assert torch.equal(losses, of_whole_logits(*case).detach())
    plain = with_gradients(whole_logits, *case)
    assert float((plain[1] - expected[0]).abs().max()) > 1e-3


def of_whole_logits(hidden: Tensor, weight: Tensor, targets: Tensor, z_loss: float = 0.0) -> Tensor:
    return token_loss(hidden @ weight.mT, targets, z_loss)


def test_a_vocabulary_of_262144() -> None:
    case = drawn(2, 5, 4, 262_144)
    exactly(with_gradients(linear_cross_entropy, *case), with_gradients(whole_logits, *case))


def test_chunks_are_about_equal_and_do_not_know_the_trials() -> None:
    assert chunk_tokens(128, 256) == 128
    assert chunk_tokens(1024, 4096) == 1024
    assert chunk_tokens(1025, 32_768) == 205  # five chunks rather than four and a single token
    assert chunk_tokens(4096, 262_144) == 256


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_trial_among_eight_equals_the_trial_alone_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(loss_head, "CHUNK_TOKENS", 16)
    monkeypatch.setattr(loss_head, "CHUNK_LOGITS", 3 * 16 * 300)
    hidden, weight, targets = drawn(8, 100, 16, 300, dtype)
    with torch.no_grad():
        hidden[5] = torch.nan

    def train(trials: slice) -> list[Tensor]:
        chosen = hidden[trials].detach().requires_grad_(), weight[trials].detach().requires_grad_()
        losses = linear_cross_entropy(*chosen, targets[trials])
        return [losses.detach(), *torch.autograd.grad(losses.sum(), chosen)]

    together = train(slice(None))
    for trial in {*range(8)} - {5}:
        for of_all, alone in zip(together, train(slice(trial, trial + 1)), strict=True):
            assert torch.equal(of_all[trial], alone[0])


MEMORY_PROGRAM = """
import json, torch
from pathlib import Path
from tests.train.test_loss_head import drawn, linear_cross_entropy, whole_logits, with_gradients

def peak():
    (line,) = (x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return int(line.split()[1])

with_gradients(linear_cross_entropy, *drawn(1, 8, 8, 64))
case, peaks = drawn(1, 1024, 16, 32_768, torch.float32), [peak()]
for loss in (linear_cross_entropy, whole_logits):
    with_gradients(loss, *case)
    peaks.append(peak() - peaks[0])
print(json.dumps(peaks[1:]))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
def test_it_takes_a_third_of_the_memory_of_whole_logits() -> None:
    """A separate process, whose peak nothing else has raised, measures the smaller peak first."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY_PROGRAM],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    chunked, whole = json.loads(done.stdout)
    assert 0 < chunked < whole / 3


def test_products_follow_autocast_and_sums_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_head, "CHUNK_TOKENS", 8)
    monkeypatch.setattr(loss_head, "CHUNK_LOGITS", 8 * 50)
    case = drawn(2, 64, 16, 50, torch.float32)
    exact = with_gradients(linear_cross_entropy, *case)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = with_gradients(linear_cross_entropy, *case)
    for value, expected in zip(half, exact, strict=True):
        assert value.dtype == torch.float32
        assert not torch.equal(value, expected)
        assert float((value - expected).norm() / expected.norm()) < 1e-2
    assert not torch.equal(half[2], half[2].bfloat16().float())


def test_without_gradients_none_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    operator = loss_head.losses_and_gradients

    def watched(*args: Any) -> Any:
        made.append(operator(*args))
        return made[-1]

    monkeypatch.setattr(loss_head, "losses_and_gradients", watched)
    case = drawn(2, 5, 4, 20)
    trained = linear_cross_entropy(*case)
    with torch.no_grad():
        evaluated = linear_cross_entropy(*case)
    assert torch.equal(trained, evaluated)
    assert not evaluated.requires_grad
    assert [[g.numel() for g in gradients] for _, *gradients in made] == [[40, 160], [0, 0]]


def test_a_second_backward_is_refused() -> None:
    """The first backward has scaled the kept gradients in place."""
    losses = linear_cross_entropy(*(case := drawn(2, 5, 4, 20)))
    torch.autograd.grad(losses.sum(), case[:2], retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(losses.sum(), case[:2])


@pytest.mark.parametrize("wanted", [True, False])
def test_torch_finds_the_operator_well_formed(wanted: bool) -> None:
    torch.library.opcheck(
        loss_head.losses_and_gradients,
        (*drawn(2, 5, 4, 20), torch.float64, wanted, False, 0.1),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )


@pytest.fixture
def ensemble(
    tiny: dict[str, Any], prepare: Prepare
) -> tuple[Ensemble, Callable[..., list[Tensor]]]:
    """Three trials in float64 at twice the base width; losses with z-loss, and all gradients."""
    tiny["train"] |= {"precision": "fp64", "z_loss": Z_LOSS}
    sweep = prepare(tiny)
    ensemble = Ensemble(sweep.model(32), sweep.protocol.train, sweep.protocol.optimizer, CPU)
    plan = sweep.trial_plan(sweep.trials[32][0])
    assert multipliers(plan)["readout.weight"] != 1
    trials = ensemble.start([plan] * 3, [0, 1, 2])
    tokens = torch.randint(256, (3, 2, 17), generator=torch.Generator().manual_seed(0))

    def run(losses_of: Callable[..., Tensor]) -> list[Tensor]:
        losses = losses_of(trials.params, trials.multipliers, tokens)
        gradients = torch.autograd.grad(losses.sum(), list(trials.params.values()))
        return [losses.detach(), *gradients]

    return ensemble, run


def test_the_engine_computes_what_it_did_from_logits(ensemble: tuple[Ensemble, Run]) -> None:
    engine, run = ensemble
    functorch: Any = torch._C._functorch
    functorch._set_vmap_fallback_enabled(False)
    try:
        apart = run(engine.losses)
    finally:
        functorch._set_vmap_fallback_enabled(True)
    assert engine.trunk is not None
    engine.trunk = None
    exactly(apart, run(engine.losses))


def test_compiled_in_one_graph_it_is_the_same(ensemble: tuple[Ensemble, Run]) -> None:
    engine, run = ensemble
    compiled = torch.compile(engine._losses, backend="aot_eager", fullgraph=True)
    exactly(run(compiled), run(engine.losses))


@pytest.mark.parametrize("z_loss", [0.0, Z_LOSS])
def test_where_losses_are_compiled_the_body_of_a_large_vocabulary_is_too(
    monkeypatch: pytest.MonkeyPatch, z_loss: float
) -> None:
    """A small vocabulary uses whole logits, compiled with the losses."""
    compile_quickly = partial(torch.compile, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", compile_quickly)
    monkeypatch.setattr(loss_head, "compiled_of_logits", cache(compiled_of_logits.__wrapped__))
    monkeypatch.setattr(loss_head, "CHUNK_TOKENS", 8)
    monkeypatch.setattr(loss_head, "CHUNK_LOGITS", 8 * 50)
    case = drawn(3, 24, 4, 50)
    loss = partial(linear_cross_entropy, z_loss=z_loss)
    expected = with_gradients(loss, *case)
    for small, count in ((0, 2), (50, 1)):
        monkeypatch.setattr(loss_head, "WHOLE_VOCAB", small)
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        exactly(with_gradients(torch.compile(loss), *case), expected)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs + count


def test_a_model_that_gives_only_logits_is_trained_on_them(
    tiny: dict[str, Any], prepare: Prepare
) -> None:
    class OnlyLogits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding, self.output = nn.Embedding(256, 8), nn.Linear(8, 256)

        def forward(self, tokens: Tensor) -> Tensor:
            logits: Tensor = self.output(self.embedding(tokens))
            return logits

    protocol, model = prepare(tiny).protocol, OnlyLogits()
    engine = Ensemble(model, protocol.train, protocol.optimizer, CPU)
    params = {name: p.detach().expand(2, *p.shape) for name, p in model.named_parameters()}
    tokens = torch.randint(256, (2, 3, 9))
    losses = engine.losses(params, dict.fromkeys(params, 1.0), tokens)
    expected = F.cross_entropy(model(tokens[0, :, :-1]).mT, tokens[0, :, 1:])
    torch.testing.assert_close(losses[0], expected)
