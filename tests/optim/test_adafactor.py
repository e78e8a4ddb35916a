from __future__ import annotations

import torch

from mutransfer_cli.optim.adafactor import EPS, Adafactor
from mutransfer_cli.optim.stack import begin
from tests.optim.stacks import TRIALS, assert_same, groups, reference, run, stack_of


def test_equals_torch_adafactor() -> None:
    """All rates are under torch's cap of 1 / sqrt(step), 0.22 at the last step."""
    params = run(Adafactor(beta2_decay=-0.8, scale_floor=1e-3))
    for trial in range(TRIALS):
        expected = reference(torch.optim.Adafactor, trial, decay=True, eps=(EPS, 1e-3))
        assert_same(params, trial, expected)


def test_the_rate_has_no_cap() -> None:
    """Twice the rate is twice the first step, also beyond torch's cap of 1."""
    optimizer, moved = Adafactor(-0.8, 1e-3), []
    for lr in (2.0, 4.0):
        params, (matrix, _) = stack_of(0), groups(decay=0)
        before = params["matrix"].clone()
        matrix.lr.fill_(lr)
        state_of_one = {"matrix": params["matrix"]}
        state = begin(optimizer, state_of_one, [matrix])
        state.step.add_(1)
        ones = torch.ones(TRIALS, dtype=torch.float64)
        optimizer.update_(state_of_one, stack_of(1), state, [matrix], ones)
        moved.append(params["matrix"] - before)
    torch.testing.assert_close(moved[1], 2 * moved[0])


def test_the_scale_of_the_loss_does_not_matter() -> None:
    plain = run(Adafactor(-0.8, 1e-3), decay=0)
    scaled = run(Adafactor(-0.8, 1e-3), decay=0, gradient_scale=1e-6)
    for name in plain:
        torch.testing.assert_close(scaled[name], plain[name])
