from __future__ import annotations

import pytest
import torch

from mutransfer_cli.optim.sgd import SGDSpec
from tests.optim.stacks import (
    LR,
    TRIALS,
    WEIGHT_DECAY,
    assert_same,
    factor,
    reference,
    run,
    stack_of,
)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_equals_torch_sgd(momentum: float) -> None:
    params = run(SGDSpec(name="sgd", momentum=momentum), decay=0)
    for trial in range(TRIALS):
        assert_same(params, trial, reference(torch.optim.SGD, trial, False, momentum=momentum))


def test_decay_is_decoupled_from_the_gradient() -> None:
    """A step without gradient removes lr * weight_decay of the weight, without momentum."""
    params = run(SGDSpec(name="sgd", momentum=0.9), gradient_scale=0.0)
    for trial in range(TRIALS):
        kept = 1.0
        for step in range(20):
            kept *= 1 - LR[trial] * factor(step) * WEIGHT_DECAY[trial]
        expected = {"matrix": kept * stack_of(0)["matrix"][trial]}
        assert_same(params, trial, expected)
