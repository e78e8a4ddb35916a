"""Optimizers of packages that need a GPU or are not installed, as `verify` sees them.

Each has the module, the name, and the keys of the groups of the class for which it stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch.optim import Optimizer

Groups = list[dict[str, Any]]
ADAM = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01, "amsgrad": False}


def of_class(module: str, name: str, groups: Groups, defaults: Any, **attributes: Any) -> Optimizer:
    """The real class if it can be imported, built without its constructor, otherwise a stand-in."""
    try:
        cls = getattr(import_module(module), name)
    except (ImportError, AttributeError):

        def step(self: Optimizer, closure: Any = None) -> None: ...

        step.__qualname__ = f"{name}.step"
        cls = type(name, (Optimizer,), {"__module__": module, "step": step})
    made: Optimizer = cls.__new__(cls)
    Optimizer.__init__(made, groups, dict(defaults))
    for key, value in attributes.items():
        setattr(made, key, value)
    return made


class Container(Optimizer):
    """Several optimizers in one, as in torchtitan: its own single group trains nothing."""

    __module__ = "torchtitan.components.optimizer.optimizer"

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.optimizers = list(optimizers)
        groups = [group for each in optimizers for group in each.param_groups]
        super().__init__([p for group in groups for p in group["params"]], {})

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for each in self.optimizers:
            each.step()


class Larc:
    """Apex's LARC as it was before its change 767: it keeps the groups that it first saw."""

    __module__ = "apex.parallel.LARC"

    def __init__(self, optimizer: Optimizer) -> None:
        self.optim = optimizer
        self.param_groups = optimizer.param_groups

    def zero_grad(self) -> None:
        self.optim.zero_grad()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optim.load_state_dict(state)

    def step(self) -> None:
        """Clip each tensor's rate by its norms, then step."""
        for group in self.optim.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(torch.linalg.vector_norm(parameter).clamp(max=1))
        self.optim.step()
