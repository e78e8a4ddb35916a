from __future__ import annotations

import torch
from torch import Tensor

from mutransfer_cli.optim.lion import LionSpec
from tests.optim.stacks import LR, STEPS, TRIALS, WEIGHT_DECAY, assert_same, factor, run, stack_of

B1, B2 = 0.9, 0.99
RULE = LionSpec(name="lion", betas=(B1, B2))


def published(trial: int) -> dict[str, Tensor]:
    """Chen et al. 2023, Algorithm 2: theta -= lr * (sign(b1 m + (1 - b1) g) + wd theta)."""
    after = {}
    for name, stack in stack_of(0).items():
        theta, m = stack[trial].clone(), torch.zeros(())
        for step in range(STEPS):
            lr = LR[trial] * factor(step) * (1 if name == "matrix" else 0.25)
            weight_decay = WEIGHT_DECAY[trial] if name == "matrix" else 0.0
            g = stack_of(step + 1)[name][trial]
            direction = torch.sign(B1 * m + (1 - B1) * g)
            theta = theta - lr * (direction + weight_decay * theta)
            m = B2 * m + (1 - B2) * g
        after[name] = theta
    return after


def test_equals_the_published_algorithm() -> None:
    params = run(RULE)
    for trial in range(TRIALS):
        assert_same(params, trial, published(trial))


def test_the_scale_of_the_loss_does_not_matter() -> None:
    plain, scaled = run(RULE), run(RULE, gradient_scale=2.0**-40)
    assert all(torch.equal(plain[name], scaled[name]) for name in plain)
