from __future__ import annotations

import pytest
import torch

from mutransfer_cli.optim.adafactor import EPS, AdafactorSpec
from tests.optim import stacks
from tests.optim.stacks import TRIALS, assert_same, first_step, reference, run, stack_of

RULE = AdafactorSpec(name="adafactor", beta2_decay=-0.8, scale_floor=1e-3)


def test_equals_torch_adafactor() -> None:
    """All rates are under torch's cap of 1 / sqrt(step), 0.22 at the last step."""
    params = run(RULE)
    for trial in range(TRIALS):
        expected = reference(torch.optim.Adafactor, trial, decay=True, eps=(EPS, 1e-3))
        assert_same(params, trial, expected)


def test_the_rate_has_no_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty times the rate gives forty times the step, far beyond torch's cap of 1."""
    plain = first_step(RULE)
    monkeypatch.setattr(stacks, "LR", [40 * lr for lr in stacks.LR])
    fast = first_step(RULE)
    torch.testing.assert_close(fast["matrix"], 40 * plain["matrix"])


def test_a_step_is_relative_to_the_weights_down_to_the_floor() -> None:
    plain = first_step(RULE)["matrix"]
    larger = {name: 10 * stack for name, stack in stack_of(0).items()}
    torch.testing.assert_close(first_step(RULE, params=larger)["matrix"], 10 * plain)
    tiny = {name: 1e-9 * stack for name, stack in stack_of(0).items()}
    size = stack_of(0)["matrix"].square().mean((1, 2), keepdim=True).sqrt()
    torch.testing.assert_close(first_step(RULE, params=tiny)["matrix"], 1e-3 * plain / size)


def test_the_scale_of_the_loss_does_not_matter() -> None:
    plain = run(RULE, decay=0)
    scaled = run(RULE, decay=0, gradient_scale=1e-6)
    for name in plain:
        torch.testing.assert_close(scaled[name], plain[name])


def test_a_row_without_gradient_stays_in_float32() -> None:
    """Rows of an embedding whose tokens are not in the batch are such rows."""
    params = {name: stack.float() for name, stack in stack_of(0).items()}
    grads = {name: stack.float() for name, stack in stack_of(1).items()}
    grads["matrix"][:, 2] = 0
    grads["vector"][:] = 0
    step = first_step(RULE, params=params, grads=grads)
    assert all(stack.isfinite().all() for stack in step.values())
    assert not step["matrix"][:, 2].any()
    assert step["matrix"][:, 1].all()
