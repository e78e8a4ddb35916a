from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mutransfer_cli.optim.muon import MuonSpec, orthogonalised
from mutransfer_cli.optim.stack import begin, update_
from mutransfer_cli.rules.choices import LrAdjustment
from tests.optim.stacks import (
    BETAS,
    LR,
    STEPS,
    TRIALS,
    WEIGHT_DECAY,
    assert_same,
    factor,
    groups,
    reference,
    run,
    stack_of,
)


def muon(adjustment: LrAdjustment) -> MuonSpec:
    return MuonSpec(name="muon", momentum=0.95, lr_adjustment=adjustment, betas=BETAS)


def newton_schulz(gradient: Tensor) -> Tensor:
    """The published iteration (Jordan et al. 2024), one matrix, in its own precision."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = gradient.T if gradient.shape[0] > gradient.shape[1] else gradient
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        s = x @ x.T
        x = a * x + (b * s + c * s @ s) @ x
    result: Tensor = x.T if gradient.shape[0] > gradient.shape[1] else x
    return result


def published(trial: int) -> Tensor:
    theta, m = stack_of(0)["matrix"][trial].clone(), torch.zeros(())
    for step in range(STEPS):
        lr, g = LR[trial] * factor(step), stack_of(step + 1)["matrix"][trial]
        m = 0.95 * m + (1 - 0.95) * g
        update = newton_schulz((1 - 0.95) * g + 0.95 * m)
        theta = theta - lr * WEIGHT_DECAY[trial] * theta
        theta = theta - lr * math.sqrt(max(1, theta.shape[0] / theta.shape[1])) * update
    return theta


def test_hidden_follows_the_published_iteration_and_the_rest_adamw() -> None:
    params = run(muon("original"))
    for trial in range(TRIALS):
        adamw = reference(torch.optim.AdamW, trial, decay=True, betas=BETAS, eps=1e-8)
        assert_same(params, trial, {"matrix": published(trial), "vector": adamw["vector"]})


@pytest.mark.parametrize("adjustment", ["original", "match_rms_adamw"])
def test_each_update_is_close_to_that_of_torch_which_iterates_in_bfloat16(
    adjustment: LrAdjustment,
) -> None:
    rule, (hidden, _) = muon(adjustment), groups(decay=0)
    params, ones = {"matrix": stack_of(0)["matrix"]}, torch.ones(TRIALS, dtype=torch.float64)
    state, theirs = begin(rule, params, [hidden]), params["matrix"][0].clone()
    torch_muon = torch.optim.Muon([theirs], lr=LR[0], weight_decay=0.0, adjust_lr_fn=adjustment)
    for step in range(STEPS):
        before, before_theirs = params["matrix"][0].clone(), theirs.clone()
        gradient = stack_of(step + 1)["matrix"]
        theirs.grad = gradient[0].clone()
        torch_muon.step()  # type: ignore[no-untyped-call]
        update_(rule, params, {"matrix": gradient}, state, [hidden], ones)
        ours, expected = params["matrix"][0] - before, theirs - before_theirs
        assert (ours - expected).norm() <= 0.05 * expected.norm()


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_layers_and_trials_are_orthogonalised_together(shape: tuple[int, int]) -> None:
    stacked = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(0)).double()
    together = orthogonalised(stacked)
    for layer in range(2):
        for trial in range(3):
            expected = newton_schulz(stacked[layer, trial])
            torch.testing.assert_close(together[layer, trial], expected, rtol=1e-6, atol=1e-7)
    values = torch.linalg.svdvals(together)
    assert values.min() > 0.3
    assert values.max() < 1.3
