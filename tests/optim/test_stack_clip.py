from __future__ import annotations

import pytest
import torch

from mutransfer_cli.optim.stack import clip_
from tests.optim.stacks import TRIALS, stack_of


@pytest.mark.parametrize("by_trial", [True, False])
def test_clipping_is_per_trial_and_equals_torch(by_trial: bool) -> None:
    gradient = stack_of(1)
    for stack in gradient.values():
        stack[0] *= 1e-3  # below the norm: untouched
    expected = []
    for trial in range(TRIALS):
        leaves = [torch.zeros_like(stack[trial]) for stack in gradient.values()]
        for leaf, stack in zip(leaves, gradient.values(), strict=True):
            leaf.grad = stack[trial].clone()
        torch.nn.utils.clip_grad_norm_(leaves, 1.0)
        expected.append([leaf.grad for leaf in leaves])
    untouched = {name: stack[0].clone() for name, stack in gradient.items()}
    clip_(gradient, 1.0, by_trial)
    for trial in range(TRIALS):
        for stack, wanted in zip(gradient.values(), expected[trial], strict=True):
            torch.testing.assert_close(stack[trial], wanted)
    assert all(torch.equal(gradient[name][0], untouched[name]) for name in gradient)


@pytest.mark.parametrize("by_trial", [True, False])
def test_a_trial_with_nan_gradients_leaves_its_neighbours_alone(by_trial: bool) -> None:
    clean, dirty = stack_of(1), stack_of(1)
    dirty["matrix"][1, 0, 0] = torch.nan
    for gradient in (clean, dirty):
        clip_(gradient, 1.0, by_trial)
    for name in clean:
        assert torch.equal(clean[name][[0, 2]], dirty[name][[0, 2]])
    assert dirty["vector"][1].isnan().all()
