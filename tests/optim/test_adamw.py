"""Both forms of the update against torch.optim.AdamW and Adam."""

from __future__ import annotations

import pytest
import torch

from mutransfer_cli.optim.adamw import AdamW, FusedAdamW
from mutransfer_cli.optim.stack import begin
from tests.optim.stacks import BETAS, TRIALS, assert_same, groups, reference, run, stack_of

FORMS = [AdamW(BETAS), FusedAdamW(BETAS)]


@pytest.mark.parametrize("optimizer", FORMS, ids=lambda optimizer: type(optimizer).__name__)
def test_equals_torch_adamw(optimizer: AdamW) -> None:
    params = run(optimizer)
    for trial in range(TRIALS):
        expected = reference(torch.optim.AdamW, trial, decay=True, betas=BETAS, eps=1e-8)
        assert_same(params, trial, expected)


@pytest.mark.parametrize("optimizer", FORMS, ids=lambda optimizer: type(optimizer).__name__)
def test_without_decay_it_is_torch_adam(optimizer: AdamW) -> None:
    params = run(optimizer, decay=0)
    for trial in range(TRIALS):
        expected = reference(torch.optim.Adam, trial, decay=False, betas=BETAS, eps=1e-8)
        assert_same(params, trial, expected)


def test_a_gradient_laid_out_otherwise_is_read_by_its_indices() -> None:
    """Backward of a transposed product hands out strided gradients; the kernel reads memory."""
    params, strided = stack_of(0), stack_of(0)
    gradient = stack_of(1)
    transposed = {
        k: g.transpose(-1, -2).contiguous().transpose(-1, -2) for k, g in gradient.items()
    }
    assert not transposed["matrix"].is_contiguous()
    ones, optimizer = torch.ones(TRIALS, dtype=torch.float64), FusedAdamW(BETAS)
    for values, grads in ((params, gradient), (strided, transposed)):
        state = begin(optimizer, values, groups())
        state.step.add_(1)
        optimizer.update_(values, grads, state, groups(), ones)
    assert torch.equal(params["matrix"], strided["matrix"])
