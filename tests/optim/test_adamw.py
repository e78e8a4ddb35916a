"""Both forms of the update against torch.optim.AdamW, and against each other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mutransfer_cli.optim.adamw import AdamWState, ParamGroup, Stack, adamw_, adamw_slices_, clip_

TRIALS, STEPS = 3, 20
SHAPES = {"matrix": (5, 7), "vector": (11,)}
LR, WEIGHT_DECAY = (1e-3, 1e-2, 1e-1), (0.0, 0.1, 0.5)
BETAS = (0.9, 0.95)

Update = Callable[..., None]


def stack_of(seed: int, dtype: torch.dtype = torch.float64) -> Stack:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(TRIALS, *shape, generator=generator, dtype=dtype)
        for name, shape in SHAPES.items()
    }


def groups() -> list[ParamGroup]:
    """Two groups whose rates differ, as roles do."""
    lr, decay = torch.tensor(LR).double(), torch.tensor(WEIGHT_DECAY).double()
    eps = torch.full((TRIALS,), 1e-8).double()
    return [
        ParamGroup(("matrix",), lr, decay, eps),
        ParamGroup(("vector",), lr / 4, 0 * decay, eps),
    ]


def run(update: Update, dtype: torch.dtype = torch.float64) -> Stack:
    params = stack_of(0, dtype)
    state = AdamWState.zeros(params)
    for step in range(STEPS):
        schedule = torch.full((TRIALS,), 1 - step / STEPS, dtype=torch.float64)
        update(params, stack_of(step + 1, dtype), state, groups(), schedule, BETAS)
    return params


def reference(trial: int) -> dict[str, Tensor]:
    params = {name: stack[trial].clone() for name, stack in stack_of(0).items()}
    optimizer = torch.optim.AdamW(
        [
            {"params": [params["matrix"]], "lr": LR[trial], "weight_decay": WEIGHT_DECAY[trial]},
            {"params": [params["vector"]], "lr": LR[trial] / 4, "weight_decay": 0.0},
        ],
        betas=BETAS,
        eps=1e-8,
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / STEPS)
    for step in range(STEPS):
        for name, stack in stack_of(step + 1).items():
            params[name].grad = stack[trial].clone()
        optimizer.step()
        schedule.step()
    return params


@pytest.mark.parametrize("update", [adamw_, adamw_slices_])
def test_equals_torch_adamw(update: Update) -> None:
    params = run(update)
    for trial in range(TRIALS):
        for name, expected in reference(trial).items():
            torch.testing.assert_close(params[name][trial], expected, rtol=1e-6, atol=1e-9)


def test_a_gradient_laid_out_otherwise_is_read_by_its_indices() -> None:
    """Backward of a transposed product hands out strided gradients; the kernel reads memory."""
    params, strided = stack_of(0), stack_of(0)
    gradient = stack_of(1)
    transposed = {
        k: g.transpose(-1, -2).contiguous().transpose(-1, -2) for k, g in gradient.items()
    }
    assert not transposed["matrix"].is_contiguous()
    ones = torch.ones(TRIALS, dtype=torch.float64)
    adamw_slices_(params, gradient, AdamWState.zeros(params), groups(), ones, BETAS)
    adamw_slices_(strided, transposed, AdamWState.zeros(strided), groups(), ones, BETAS)
    assert torch.equal(params["matrix"], strided["matrix"])


@pytest.mark.parametrize("sliced", [True, False])
def test_clipping_is_per_trial_and_equals_torch(sliced: bool) -> None:
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
    clip_(gradient, 1.0, sliced)
    for trial in range(TRIALS):
        for stack, wanted in zip(gradient.values(), expected[trial], strict=True):
            torch.testing.assert_close(stack[trial], wanted)
    assert all(torch.equal(gradient[name][0], untouched[name]) for name in gradient)


@pytest.mark.parametrize("sliced", [True, False])
def test_a_trial_with_nan_gradients_leaves_its_neighbours_alone(sliced: bool) -> None:
    clean, dirty = stack_of(1), stack_of(1)
    dirty["matrix"][1, 0, 0] = torch.nan
    for gradient in (clean, dirty):
        clip_(gradient, 1.0, sliced)
    for name in clean:
        assert torch.equal(clean[name][[0, 2]], dirty[name][[0, 2]])
    assert dirty["vector"][1].isnan().all()
