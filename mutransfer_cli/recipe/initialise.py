"""Initial weights of a model by a recipe."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mutransfer_cli.errors import InputError
from mutransfer_cli.proxies.inits import as_at_base
from mutransfer_cli.recipe.patterns import Claimed, Targets
from mutransfer_cli.rules.plan import PlannedParameter

NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
SPLIT = "call init_ on the whole model, before it is split"


@dataclass(frozen=True)
class Initialised:
    """Names of the parameters that were drawn, and of those that keep the model's own draw, at most
    shifted and scaled to what it is at the base width."""

    drawn: tuple[str, ...]
    left: tuple[str, ...]


def initialised(
    targets: Targets, model: nn.Module, generator: torch.Generator | None
) -> Initialised:
    """Draw the targets in place; arguments and errors as in `LoadedRecipe.init_`."""
    for claimed, target in targets:
        _demand_values(claimed.tensor, target.name)
    homes = {
        id(parameter): (module, name)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
    }
    drawn, left = [], []
    with torch.no_grad():
        for claimed, target in targets:
            normal = _normal_of(claimed, target, *homes[id(claimed.tensor)])
            if normal is None:
                left.append(target.name)
                if target.keeps_draw and target.init_std is not None and not has_ranks():
                    own = as_at_base(claimed.tensor, target.init_mean, target.init_std)
                    claimed.tensor.copy_(own)
            else:
                _draw_(claimed.tensor, *normal, generator)
                drawn.append((target.name, claimed.tensor))
        if has_ranks():
            from mutransfer_cli.recipe.ranks import copy_from_first_

            copy_from_first_(model, drawn)
    return Initialised(tuple(name for name, _ in drawn), tuple(left))


def has_ranks() -> bool:
    """Whether this process is one of several that train together."""
    return dist.is_available() and dist.is_initialized()


def _draw_(tensor: Tensor, mean: float, std: float, generator: torch.Generator | None) -> None:
    if has_ranks():
        from mutransfer_cli.recipe.ranks import draw_

        draw_(tensor, mean, std, generator)
    else:
        tensor.normal_(mean, std, generator=generator)


def _demand_values(tensor: Tensor, name: str) -> None:
    if tensor.is_meta:
        raise InputError(
            f"{name}: is on the meta device, which holds no values; call "
            "model.to_empty(device=...) first"
        )
    if not tensor.numel():
        raise InputError(
            f"{name}: is empty on this rank, as under DeepSpeed's ZeRO 3; {SPLIT}, or inside "
            "deepspeed.zero.GatheredParameters"
        )
    # marks of Megatron, and of its and DeepSpeed's experts
    if getattr(tensor, "tensor_model_parallel", False) or not getattr(tensor, "allreduce", True):
        raise InputError(
            f"{name}: is one rank's part of a tensor- or expert-parallel model; {SPLIT}"
        )


def _normal_of(
    claimed: Claimed, target: PlannedParameter, module: nn.Module, attribute: str
) -> tuple[float, float] | None:
    """Mean and std of a parameter's init; None where neither recipe nor module tells them.

    A written mean of 0 may be that of a gain in recipes of older versions, which hold no means.
    """
    mean, std = target.init_mean, target.init_std
    if target.keeps_draw:
        return None
    is_vector = target.role in ("vector", "scalar")
    written = claimed.pattern.written if claimed.pattern else None
    has_means = mean or std or (written is not None and written.base is not None)
    if std is not None and (not is_vector or has_means):
        return mean, std
    if not is_vector:
        return None
    if isinstance(module, NORMS):
        return {"weight": (1.0, 0.0), "bias": (0.0, 0.0)}.get(attribute)
    is_bias = attribute == "bias" and type(module).__module__.startswith("torch.nn.")
    return (0.0, 0.0) if is_bias and std is not None else None
