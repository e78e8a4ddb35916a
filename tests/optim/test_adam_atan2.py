from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mutransfer_cli.optim.adam_atan2 import AdamAtan2Spec
from tests.optim.stacks import (
    BETAS,
    LR,
    STEPS,
    TRIALS,
    WEIGHT_DECAY,
    assert_same,
    factor,
    run,
    stack_of,
)


def published(trial: int, a: float, b: float) -> dict[str, Tensor]:
    """Everett et al. 2024: theta -= lr * a * atan2(m_hat, b * sqrt(v_hat)), after decay."""
    after = {}
    for name, stack in stack_of(0).items():
        theta, m, v = stack[trial].clone(), torch.zeros(()), torch.zeros(())
        for step in range(STEPS):
            lr = LR[trial] * factor(step) * (1 if name == "matrix" else 0.25)
            g = stack_of(step + 1)[name][trial]
            m = BETAS[0] * m + (1 - BETAS[0]) * g
            v = BETAS[1] * v + (1 - BETAS[1]) * g**2
            m_hat, v_hat = m / (1 - BETAS[0] ** (step + 1)), v / (1 - BETAS[1] ** (step + 1))
            if name == "matrix":
                theta = theta - lr * WEIGHT_DECAY[trial] * theta
            theta = theta - lr * a * torch.atan2(m_hat, b * v_hat.sqrt())
        after[name] = theta
    return after


@pytest.mark.parametrize(("a", "b"), [(1.27, 1.0), (1.0, 1.0), (2.16, 2.0)])
def test_equals_the_published_formula(a: float, b: float) -> None:
    params = run(AdamAtan2Spec(name="adam_atan2", betas=BETAS, a=a, b=b))
    for trial in range(TRIALS):
        assert_same(params, trial, published(trial, a, b))


def test_the_scale_of_the_loss_does_not_matter() -> None:
    optimizer = AdamAtan2Spec(name="adam_atan2", betas=BETAS, a=1.27, b=1.0)
    plain, tiny = run(optimizer), run(optimizer, gradient_scale=1e-12)
    for name, stack in plain.items():
        torch.testing.assert_close(tiny[name], stack, rtol=1e-13, atol=0)


def test_no_step_is_beyond_two_rates() -> None:
    assert 4 / math.pi * math.pi / 2 == pytest.approx(2)
    optimizer = AdamAtan2Spec(name="adam_atan2", betas=BETAS, a=4 / math.pi, b=1.0)
    before, after = stack_of(0), run(optimizer, decay=0)
    bound = sum(2 * factor(step) for step in range(STEPS))
    for trial, lr in enumerate(LR):
        assert (after["matrix"] - before["matrix"])[trial].abs().max() <= bound * lr
