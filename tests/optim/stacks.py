"""Three trials of two parameters with rates of their own, and twenty steps of made-up gradients."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from mutransfer_cli.optim.section import OptimizerSection, ParamGroup
from mutransfer_cli.optim.stack import Stack, Update, begin, update_

TRIALS, STEPS = 3, 20
SHAPES = {"matrix": (6, 4), "vector": (11,)}
LR, WEIGHT_DECAY = (1e-3, 1e-2, 1e-1), (0.0, 0.1, 0.5)
BETAS = (0.9, 0.95)


def stack_of(seed: int) -> Stack:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(TRIALS, *shape, generator=generator, dtype=torch.float64)
        for name, shape in SHAPES.items()
    }


def groups(decay: float = 1.0) -> list[ParamGroup]:
    """Two groups whose rates differ, as roles do; `decay` scales the weight decay."""
    lr, weight_decay = torch.tensor(LR).double(), decay * torch.tensor(WEIGHT_DECAY).double()
    eps = torch.full((TRIALS,), 1e-8).double()
    return [
        ParamGroup(("matrix",), "hidden", lr, weight_decay, eps),
        ParamGroup(("vector",), "vector", lr / 4, 0 * weight_decay, eps),
    ]


def factor(step: int) -> float:
    return 1 - step / STEPS


def run(
    optimizer: OptimizerSection,
    decay: float = 1.0,
    gradient_scale: float = 1.0,
    update: Update | None = None,
) -> Stack:
    """The parameters after STEPS updates under a falling schedule."""
    params, in_groups = stack_of(0), groups(decay)
    state, update = begin(optimizer, params, in_groups), update or partial(update_, optimizer)
    for step in range(STEPS):
        schedule = torch.full((TRIALS,), factor(step), dtype=torch.float64)
        grads = {name: gradient_scale * g for name, g in stack_of(step + 1).items()}
        update(params, grads, state, in_groups, schedule)
    return params


def first_step(
    optimizer: OptimizerSection, update: Update | None = None, **changes: Stack
) -> Stack:
    """The change by one update without decay; `changes` replaces params or grads."""
    params, in_groups = changes.get("params", stack_of(0)), groups(decay=0)
    before = {name: stack.clone() for name, stack in params.items()}
    ones, update = torch.ones(TRIALS, dtype=torch.float64), update or partial(update_, optimizer)
    state = begin(optimizer, params, in_groups)
    update(params, changes.get("grads", stack_of(1)), state, in_groups, ones)
    return {name: stack - before[name] for name, stack in params.items()}


def reference(
    optimizer_class: type[torch.optim.Optimizer], trial: int, decay: bool, **settings: object
) -> dict[str, Tensor]:
    """The same trial under a torch optimizer and scheduler."""
    params = {name: stack[trial].clone() for name, stack in stack_of(0).items()}
    matrix = {"weight_decay": WEIGHT_DECAY[trial]} if decay else {}
    vector = {"weight_decay": 0.0} if decay else {}
    optimizer = optimizer_class(
        [
            {"params": [params["matrix"]], "lr": LR[trial], **matrix},
            {"params": [params["vector"]], "lr": LR[trial] / 4, **vector},
        ],
        **settings,  # type: ignore[arg-type]
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    for step in range(STEPS):
        for name, stack in stack_of(step + 1).items():
            params[name].grad = stack[trial].clone()
        optimizer.step()
        schedule.step()
    return params


def assert_same(stack: Stack, trial: int, expected: dict[str, Tensor]) -> None:
    for name, values in expected.items():
        torch.testing.assert_close(stack[name][trial], values, rtol=1e-6, atol=1e-9)
