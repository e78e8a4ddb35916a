"""A Llama of transformers, and what a torch optimizer holds for its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from tests.trainers.compare import Arrived
from tests.trainers.conftest import llama_config


def llama() -> Any:
    """A Llama of the test's sizes, started by its own code."""
    transformers: Any = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(**llama_config())
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config)


def means_and_stds(model: nn.Module) -> dict[str, tuple[float, float]]:
    """Mean and std of every parameter's values."""
    return {name: (p.mean().item(), p.std().item()) for name, p in model.named_parameters()}


def arrived(
    param_groups: Sequence[Mapping[str, Any]],
    model: nn.Module,
    started: Mapping[str, tuple[float, float]],
) -> dict[str, Arrived]:
    """Values of every parameter in an optimizer with a schedule, and at the start."""
    groups = {id(p): group for group in param_groups for p in group["params"]}
    found = {}
    for name, parameter in model.named_parameters():
        group, (mean, std) = groups[id(parameter)], started[name]
        found[name] = Arrived(
            lr=group["initial_lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            betas=group["betas"],
            mean=mean,
            std=std,
            count=parameter.numel(),
        )
    return found
