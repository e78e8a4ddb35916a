"""Both forms of the update against torch.optim.AdamW and Adam."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from mutransfer_cli.optim.adamw import AdamWSpec
from mutransfer_cli.optim.stack import Update, fused_update_, update_
from tests.optim.stacks import BETAS, TRIALS, assert_same, first_step, reference, run, stack_of

RULE = AdamWSpec(betas=BETAS)
FORMS = [partial(update_, RULE), partial(fused_update_, RULE)]


@pytest.mark.parametrize("update", FORMS)
def test_equals_torch_adamw(update: Update) -> None:
    params = run(RULE, update=update)
    for trial in range(TRIALS):
        expected = reference(torch.optim.AdamW, trial, decay=True, betas=BETAS, eps=1e-8)
        assert_same(params, trial, expected)


@pytest.mark.parametrize("update", FORMS)
def test_without_decay_it_is_torch_adam(update: Update) -> None:
    params = run(RULE, decay=0, update=update)
    for trial in range(TRIALS):
        expected = reference(torch.optim.Adam, trial, decay=False, betas=BETAS, eps=1e-8)
        assert_same(params, trial, expected)


def test_a_gradient_laid_out_otherwise_is_read_by_its_indices() -> None:
    """A transposed product's backward returns strided gradients; the kernel reads raw memory."""
    gradient = stack_of(1)
    strided = {k: g.transpose(-1, -2).contiguous().transpose(-1, -2) for k, g in gradient.items()}
    assert not strided["matrix"].is_contiguous()
    plain = first_step(RULE, FORMS[1], grads=gradient)
    assert torch.equal(first_step(RULE, FORMS[1], grads=strided)["matrix"], plain["matrix"])
